/* A stub of libcuda.so.1 that answers queries but cannot compute. CUDA_STUB_GPUS lists
 * its GPUs ("NVIDIA A10:8.6,Tesla K80:3.7", by default none), each of 24 GB,
 * CUDA_STUB_VERSION is its CUDA version (by default 12040).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    OK = 0,
    NOT_INITIALIZED = 3,
    NO_DEVICE = 100,
    INVALID_DEVICE = 101,
    NOT_FOUND = 500
};
enum { CAPABILITY_MAJOR = 75, CAPABILITY_MINOR = 76 };

static const char *gpu(int index) {
    const char *at = getenv("CUDA_STUB_GPUS");
    if (!at || !*at) return NULL;
    while (index-- > 0 && at) {
        at = strchr(at, ',');
        if (at) at++;
    }
    return at;
}

static int ready = 0;

int cuInit(unsigned flags) {
    ready = gpu(0) != NULL;
    return ready ? OK : NO_DEVICE;
}

int cuDeviceGetCount(int *count) {
    if (!ready) return NOT_INITIALIZED;
    for (*count = 0; gpu(*count); ++*count) {
    }
    return OK;
}

int cuDeviceGetName(char *name, int size, int device) {
    const char *at = ready ? gpu(device) : NULL;
    if (!at) return INVALID_DEVICE;
    snprintf(name, size, "%.*s", (int)strcspn(at, ":"), at);
    return OK;
}

int cuDeviceGetAttribute(int *value, int attribute, int device) {
    int major = 0, minor = 0;
    const char *at = ready ? gpu(device) : NULL;
    if (!at) return INVALID_DEVICE;
    sscanf(strchr(at, ':'), ":%d.%d", &major, &minor);
    *value = 0;
    if (attribute == CAPABILITY_MAJOR) *value = major;
    if (attribute == CAPABILITY_MINOR) *value = minor;
    return OK;
}

int cuDeviceTotalMem_v2(size_t *bytes, int device) {
    if (!ready || !gpu(device)) return INVALID_DEVICE;
    *bytes = 24000000000;
    return OK;
}

int cuDriverGetVersion(int *version) {
    const char *set = getenv("CUDA_STUB_VERSION");
    *version = set ? atoi(set) : 12040;
    return OK;
}

/* libcudart looks up all other functions by this one. */
int cuGetProcAddress(const char *name, void **function, int version, long flags) {
    *function = NULL;
    return NOT_FOUND;
}

/* Functions that libmxnet.so links, and calls once it uses a GPU. */
#define REFUSED(name)                              \
    int name(void) {                               \
        fputs("stub: " #name " called\n", stderr); \
        return NO_DEVICE;                          \
    }
REFUSED(cuDeviceGet)
REFUSED(cuDevicePrimaryCtxRetain)
REFUSED(cuGetErrorString)
REFUSED(cuGraphKernelNodeGetParams)
REFUSED(cuGraphNodeGetType)
REFUSED(cuLaunchKernel)
REFUSED(cuModuleGetFunction)
REFUSED(cuModuleLoadData)
REFUSED(cuModuleLoadDataEx)
REFUSED(cuModuleUnload)
