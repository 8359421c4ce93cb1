"""Folds by subject: what a seed has given stays where all subjects have as many cases."""

from dataset_conversion.folds import five_folds
from dataset_conversion.raw_dataset import Member


def test_folds_of_subjects_with_equally_many_cases_are_those_of_earlier_versions():
    members = [
        Member(f"p{index:02d}_{scan}", f"p{index:02d}", "Training", "ABC"[index % 3], float(index * 7 % 13))
        for index in range(13)
        for scan in (0, 1)
    ]
    assert [sorted({case[:3] for case in fold["val"]}) for fold in five_folds(members)] == [
        ["p02", "p08", "p12"],
        ["p01", "p09"],
        ["p03", "p05", "p10"],
        ["p06", "p07", "p11"],
        ["p00", "p04"],
    ]
