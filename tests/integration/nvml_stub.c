/* A stand-in for libnvidia-ml.so.1 with one GPU, for tests of the energy path without a GPU. Written from NVML's public
 * documentation. By environment: NVMLSTUB_POWER_W and NVMLSTUB_PERIOD_MS of the counter (0 W: it stays at 0),
 * NVMLSTUB_INIT_ERROR and NVMLSTUB_ENERGY_ERROR (an nvmlReturn_t), NVMLSTUB_MIG (1: partitioned).
 * Compiled with -DWITHOUT_ENERGY it lacks the counter's function, as an old driver does. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double number(const char *name, double otherwise) {
    const char *text = getenv(name);
    return text ? atof(text) : otherwise;
}

int nvmlInitWithFlags(unsigned flags) { (void)flags; return (int)number("NVMLSTUB_INIT_ERROR", 0); }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int code) { (void)code; return "stub error"; }

int nvmlDeviceGetHandleByUUID(const char *uuid, void **device) {
    static int gpu;
    *device = &gpu;
    return strcmp(uuid, "GPU-stub") ? 6 /* not found */ : 0;
}

int nvmlSystemGetDriverVersion(char *version, unsigned length) {
    snprintf(version, length, "999.1");
    return 0;
}

int nvmlDeviceGetMigMode(void *device, unsigned *current, unsigned *pending) {
    (void)device;
    *current = *pending = (unsigned)number("NVMLSTUB_MIG", 0);
    return 0;
}

#ifndef WITHOUT_ENERGY
int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *energy_mj) {
    struct timespec now;
    double period_ms = number("NVMLSTUB_PERIOD_MS", 100);
    (void)device;
    clock_gettime(CLOCK_MONOTONIC, &now);
    double steps = (unsigned long long)((now.tv_sec * 1e3 + now.tv_nsec / 1e6) / period_ms);
    *energy_mj = (unsigned long long)(number("NVMLSTUB_POWER_W", 250) * steps * period_ms);
    return (int)number("NVMLSTUB_ENERGY_ERROR", 0);
}
#endif
