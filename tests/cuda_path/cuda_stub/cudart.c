// A CUDA runtime with one card of each generation in CAPABILITIES ("90 89"), on which nothing runs and nothing is
// allocated. It stands before the real one, for fake tensors: PyTorch chooses kernels by the properties of a card.
#include <stdlib.h>
#include <string.h>
#include <cuda_runtime_api.h>
#undef cudaGetDeviceProperties

static __thread int current = 0;

static int capability(int device) {
    char *rest = getenv("CAPABILITIES");
    int number = (int)strtol(rest, &rest, 10);
    while (device--) number = (int)strtol(rest, &rest, 10);
    return number;
}

cudaError_t cudaGetDeviceCount(int *count) {
    for (*count = 0; capability(*count); ++*count) {}
    return cudaSuccess;
}
cudaError_t cudaGetDevice(int *device) { *device = current; return cudaSuccess; }
cudaError_t cudaSetDevice(int device) { current = device; return cudaSuccess; }
cudaError_t cudaGetLastError(void) { return cudaSuccess; }
cudaError_t cudaPeekAtLastError(void) { return cudaSuccess; }
cudaError_t cudaDriverGetVersion(int *version) { *version = CUDART_VERSION; return cudaSuccess; }
cudaError_t cudaDeviceSynchronize(void) { return cudaSuccess; }
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status) {
    *status = cudaStreamCaptureStatusNone;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest) {
    *least = 0, *greatest = -5;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device) {
    *value = 1;
    return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *card, int device) {
    memset(card, 0, sizeof *card);
    strcpy(card->name, "stub");
    card->major = capability(device) / 10, card->minor = capability(device) % 10;
    card->totalGlobalMem = 80ull << 30, card->multiProcessorCount = 132, card->warpSize = 32;
    card->sharedMemPerBlock = 49152, card->sharedMemPerBlockOptin = card->major == 9 ? 232448 : 101376;
    card->regsPerBlock = card->regsPerMultiprocessor = 65536;
    card->maxThreadsPerBlock = 1024, card->maxThreadsPerMultiProcessor = 1536;
    return cudaSuccess;
}
cudaError_t cudaGetDriverEntryPointByVersion(const char *symbol, void **entry, unsigned int version,
                                             unsigned long long flags, enum cudaDriverEntryPointQueryResult *result) {
    *entry = NULL;
    if (result) *result = cudaDriverEntryPointSymbolNotFound;
    return cudaSuccess;
}
