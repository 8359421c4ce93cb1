"""The one exception for what a user can put right."""


class UserError(SystemExit):
    """One sentence for the user: what is wrong, where, and what to do.

    It derives from SystemExit because nnU-Net's own entry points (``nnUNetv2_train``, ``nnUNetv2_predict``) are the
    programs in which our trainers run: Python prints the sentence to stderr and ends with exit code 1, without a stack
    trace, and without a wrapper around commands that are not ours. From Python it can be caught like any exception.
    """
