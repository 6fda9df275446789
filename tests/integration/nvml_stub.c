/* A stub of libnvidia-ml.so.1 with one GPU, "GPU-stub", and its MIG partition "MIG-slice", for tests without a GPU. It
 * is written from NVML's public documentation, with the structures of nvidia-ml-py. Environment variables set
 * everything and are read at every call. The clock is NVMLSTUB_NOW_S if that is set, so that no test sleeps, otherwise
 * the seconds since the first call.
 *
 * A setting is one value, or several values with the seconds from which each holds: "250" or "0:250,12.5:180".
 *   POWER_W                    the power of the board (250); every sensor derives from its integral
 *   PERIOD_MS, PHASE_MS        the energy counter's steps (100, 0); STUCK_AT_S, RESET_AT_S, JUMP_AT_S: its faults
 *   GAIN                       of the counter (1)
 *   LOSS_MJ                    millijoules that the counter's next step loses for every reading (0)
 *   LIMIT_W, CLOCK_MHZ, TEMPERATURE_C, REASONS (clock event bits), UTILISATION, MIG
 *   PROGRAMS, GRAPHICS, BUSY   processes on the GPU: "7+self", those that draw, and their percent: "7=40+self=50"
 *   X_ERROR                    the nvmlReturn_t to return, for X in INIT, ENERGY, INSTANT (inside the field),
 *                              AVERAGE, CLOCK, REASONS, PROGRAMS, GRAPHICS, BUSY, UTILISATION, MIG
 * Compiling with -DnvmlName=nowhere leaves a function out, as an old driver's library does. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { OK = 0, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, LONGEST = 65536 };

static const char *set(const char *name) {
    char full[64];
    snprintf(full, sizeof full, "NVMLSTUB_%s", name);
    return getenv(full);
}

static double now_s(void) {
    static double first_s = -1;
    const char *given = set("NOW_S");
    struct timespec now;
    if (given) return atof(given);
    clock_gettime(CLOCK_MONOTONIC, &now);
    double monotonic_s = now.tv_sec + now.tv_nsec / 1e9;
    if (first_s < 0) first_s = monotonic_s;
    return monotonic_s - first_s;
}

/* Return the value that holds at a moment, as text. */
static const char *at(const char *name, double moment_s, const char *otherwise, char *value) {
    const char *text = set(name);
    strcpy(value, otherwise);
    if (!text || !strchr(text, ':')) return text ? strncpy(value, text, LONGEST - 1) : value;
    char copy[LONGEST] = "";
    strncpy(copy, text, LONGEST - 1);
    for (char *rest = copy, *part; (part = strsep(&rest, ","));) {
        char *colon = strchr(part, ':');
        if (colon && atof(part) <= moment_s) strcpy(value, colon + 1);
    }
    return value;
}

static double number(const char *name, double otherwise) {
    char value[LONGEST] = "", fallback[32];
    snprintf(fallback, sizeof fallback, "%.9g", otherwise);
    return strtod(at(name, now_s(), fallback, value), NULL);
}

static int error(const char *name) {
    char full[32];
    snprintf(full, sizeof full, "%s_ERROR", name);
    return (int)number(full, OK);
}

/* Return the joules drawn from 0 to a moment: the integral of POWER_W. */
static double drawn_j(double moment_s) {
    const char *text = set("POWER_W");
    if (!text || !strchr(text, ':')) return moment_s * (text ? atof(text) : 250);
    char copy[LONGEST] = "";
    strncpy(copy, text, LONGEST - 1);
    double sum_j = 0, from_s = 0, power_w = 0;
    for (char *rest = copy, *part; (part = strsep(&rest, ","));) {
        double next_s = fmin(atof(part), moment_s);
        if (next_s > from_s) sum_j += power_w * (next_s - from_s), from_s = next_s;
        power_w = atof(strchr(part, ':') + 1);
    }
    return sum_j + power_w * fmax(moment_s - from_s, 0);
}

static double floor_to(double moment_s, double period_s, double phase_s) {
    return phase_s + floor((moment_s - phase_s) / period_s + 1e-9) * period_s;
}

int nvmlInitWithFlags(unsigned flags) { (void)flags; now_s(); return error("INIT"); }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code) { (void)code; return "stub error"; }

static int gpu, slice;

int nvmlDeviceGetCount_v2(unsigned *count) { *count = 1; return OK; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) { *device = &gpu; return index ? 2 : OK; }
int nvmlDeviceGetHandleByUUID(const char *uuid, void **device) {
    *device = strcmp(uuid, "MIG-slice") ? &gpu : &slice;
    return strcmp(uuid, "GPU-stub") && strcmp(uuid, "MIG-slice") ? NOT_FOUND : OK;
}
int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(void *partition, void **device) {
    *device = &gpu;
    return partition == &slice ? OK : NOT_FOUND;
}
int nvmlDeviceGetUUID(void *device, char *uuid, unsigned length) {
    (void)device;
    snprintf(uuid, length, "GPU-stub");
    return OK;
}
int nvmlSystemGetDriverVersion(char *version, unsigned length) {
    snprintf(version, length, "999.1");
    return OK;
}

int nvmlDeviceGetMigMode(void *device, unsigned *current, unsigned *pending) {
    (void)device;
    *current = *pending = (unsigned)number("MIG", 0);
    return error("MIG");
}

int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *energy_mj) {
    static double lost_mj, pending_mj, last_s;
    (void)device;
    double shown_s = fmin(now_s(), number("STUCK_AT_S", HUGE_VAL)), reset_s = number("RESET_AT_S", HUGE_VAL);
    double step_s = floor_to(shown_s, number("PERIOD_MS", 100) / 1e3, number("PHASE_MS", 0) / 1e3);
    double drawn_mj = drawn_j(step_s) * 1e3 - (step_s >= reset_s ? drawn_j(reset_s) * 1e3 : 0);
    if (step_s >= number("JUMP_AT_S", HUGE_VAL)) drawn_mj += 1e9;
    if (step_s != last_s) lost_mj += pending_mj, pending_mj = 0, last_s = step_s;
    pending_mj += number("LOSS_MJ", 0);
    if (!set("LOSS_MJ")) lost_mj = pending_mj = 0;
    *energy_mj = (unsigned long long)fmax(drawn_mj * number("GAIN", 1) - lost_mj, 0);
    return error("ENERGY");
}

int nvmlDeviceGetPowerUsage(void *device, unsigned *power_mw) { /* mean of the last second, every 100 ms */
    (void)device;
    double end_s = floor_to(now_s(), 0.1, 0);
    *power_mw = (unsigned)round((drawn_j(end_s) - drawn_j(fmax(end_s - 1, 0))) * 1e3 / fmin(fmax(end_s, 0.1), 1));
    return error("AVERAGE");
}

struct field { unsigned id, scope; long long timestamp_us, latency_us; int type, result; unsigned long long value; };

int nvmlDeviceGetFieldValues(void *device, int count, struct field *fields) { /* sees 25 ms of every 100 ms */
    (void)device;
    double end_s = floor_to(now_s(), 0.1, 0);
    for (int index = 0; index < count; index++) {
        fields[index].value = 0;
        if (fields[index].id == 186)
            fields[index].value = (unsigned)round((drawn_j(end_s) - drawn_j(end_s - 0.025)) * 1e3 / 0.025);
        fields[index].result = fields[index].id == 186 ? error("INSTANT") : 3;
        if (fields[index].result) fields[index].value = 123456789; /* meaningless, as from real drivers */
    }
    return OK;
}

int nvmlDeviceGetEnforcedPowerLimit(void *device, unsigned *limit_mw) {
    (void)device;
    *limit_mw = (unsigned)(number("LIMIT_W", 700) * 1e3);
    return OK;
}

int nvmlDeviceGetClockInfo(void *device, int type, unsigned *clock_mhz) {
    (void)device;
    *clock_mhz = type == 1 ? (unsigned)number("CLOCK_MHZ", 1980) : 2619;
    return error("CLOCK");
}

int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *temperature_c) {
    (void)device, (void)sensor;
    *temperature_c = (unsigned)number("TEMPERATURE_C", 55);
    return error("CLOCK");
}

int nvmlDeviceGetCurrentClocksEventReasons(void *device, unsigned long long *reasons) {
    char value[LONGEST] = "";
    (void)device;
    *reasons = strtoull(at("REASONS", now_s(), "0", value), NULL, 0);
    return error("REASONS");
}

struct utilisation { unsigned gpu, memory; };

int nvmlDeviceGetUtilizationRates(void *device, struct utilisation *rates) {
    (void)device;
    rates->gpu = (unsigned)number("UTILISATION", 0);
    rates->memory = 0;
    return error("UTILISATION");
}

static unsigned pid_of(const char *text) {
    return strncmp(text, "self", 4) ? (unsigned)atoi(text) : (unsigned)getpid();
}

/* Split a setting at its plus signs; return the number of parts. */
static unsigned parts(const char *name, char *value, char **found) {
    unsigned count = 0;
    at(name, now_s(), "", value);
    for (char *rest = value, *part; (part = strsep(&rest, "+"));)
        if (*part) found[count++] = part;
    return count;
}

struct process { unsigned pid; unsigned long long memory; unsigned gpu_instance, compute_instance; };

static int list(const char *name, unsigned *count, struct process *processes) {
    char value[LONGEST], *found[64];
    unsigned there = parts(name, value, found), room = *count;
    if (error(name)) return error(name);
    *count = there;
    if (room < there || !processes) return there ? INSUFFICIENT_SIZE : OK;
    for (unsigned index = 0; index < there; index++)
        processes[index] = (struct process){pid_of(found[index]), 1 << 30, 0, 0};
    return OK;
}

int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, struct process *processes) {
    (void)device;
    return list("PROGRAMS", count, processes);
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(void *device, unsigned *count, struct process *processes) {
    (void)device;
    return list("GRAPHICS", count, processes);
}

struct sample { unsigned pid; unsigned long long timestamp_us; unsigned sm, memory, encoder, decoder; };

int nvmlDeviceGetProcessUtilization(void *device, struct sample *samples, unsigned *count, unsigned long long last_us) {
    char value[LONGEST], *found[64];
    unsigned there = parts("BUSY", value, found), room = *count;
    unsigned long long end_us = (unsigned long long)(floor_to(now_s(), 0.166, 0) * 1e6);
    (void)device;
    if (error("BUSY")) return error("BUSY");
    if (end_us <= last_us || !there) return NOT_FOUND;
    *count = there;
    if (room < there || !samples) return INSUFFICIENT_SIZE;
    for (unsigned index = 0; index < there; index++) {
        char *percent = strchr(found[index], '=');
        unsigned share = percent ? (unsigned)strtoul(percent + 1, NULL, 10) : 0;
        samples[index] = (struct sample){pid_of(found[index]), end_us, share, 0, 0, 0};
    }
    return OK;
}
