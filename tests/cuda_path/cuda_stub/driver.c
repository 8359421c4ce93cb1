// A CUDA driver with everything that PyTorch looks up in one when it starts, where nothing does anything.
#define DO(name) int name(void) { return 0; }

DO(cuCtxGetCurrent) DO(cuCtxGetDevice) DO(cuCtxGetLimit) DO(cuCtxSetCurrent) DO(cuCtxSetLimit) DO(cuDeviceGet)
DO(cuDeviceGetAttribute) DO(cuDeviceGetCount) DO(cuDevicePrimaryCtxGetState) DO(cuDevicePrimaryCtxRetain)
DO(cuDriverGetVersion) DO(cuFuncGetAttribute) DO(cuFuncSetAttribute) DO(cuFuncSetCacheConfig)
DO(cuGetErrorString) DO(cuGetProcAddress_v2) DO(cuInit) DO(cuLaunchCooperativeKernel) DO(cuLaunchKernel)
DO(cuLinkAddData_v2) DO(cuLinkComplete) DO(cuLinkCreate_v2) DO(cuModuleGetFunction) DO(cuModuleLoad)
DO(cuModuleLoadData) DO(cuModuleLoadDataEx) DO(cuModuleUnload) DO(cuOccupancyMaxActiveBlocksPerMultiprocessor)
DO(cuPointerGetAttribute) DO(cuTensorMapEncodeTiled)
