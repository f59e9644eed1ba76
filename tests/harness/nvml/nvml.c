/* NVML's own entry points (https://docs.nvidia.com/deploy/nvml-api/), answered from the text file $NVML_HOST.
 *
 * Compiled in the test run as libnvidia-ml.so.1 and loaded by the real pynvml, by ctypes or by a program. player.py says
 * what the file may hold. What a GPU has no line for is NVML_ERROR_NOT_SUPPORTED, as on GPUs that cannot tell.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

enum {
  SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7,
  VERSION_MISMATCH = 25, HANG = -1, CRASH = -2
};
enum { MOST_DEVICES = 64, MOST_LINES = 64, MEMORY_V2 = 0x02000028, TEMPERATURE_V1 = 0x0100000C };

typedef struct { char key[64], value[192]; } line_t;
typedef struct device {
  struct device *parent; /* of a MIG device */
  int lines;
  line_t line[MOST_LINES];
} device_t;

typedef struct { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; } pci_t;
typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_v2_t;
typedef struct { unsigned version, sensor; int value; } temperature_t;
typedef struct { unsigned gpu, memory; } utilization_t;
typedef struct { unsigned pid; unsigned long long memory; unsigned gpu_instance, compute_instance; } process_t;

static device_t host, gpus[MOST_DEVICES], migs[MOST_DEVICES];
static int gpu_count, mig_count, users;

/* --- the file ---------------------------------------------------------------------------------------------------- */

static void refuse(const char *what, const char *text) {
  fprintf(stderr, "nvml player: %s: %s\n", what, text);
  _exit(99);
}

static void add(device_t *to, const char *text) {
  if (to->lines == MOST_LINES) refuse("too many lines before", text);
  line_t *line = &to->line[to->lines++];
  if (sscanf(text, " %63s %191[^\n]", line->key, line->value) < 2) refuse("a line without a value", text);
}

#ifndef NVML_HOST_FILE
#define NVML_HOST_FILE NULL /* a made-up machine has one at a fixed place */
#endif

static void read_host(void) {
  const char *path = getenv("NVML_HOST") ? getenv("NVML_HOST") : NVML_HOST_FILE;
  FILE *file = path ? fopen(path, "r") : NULL;
  char text[512], key[64];
  device_t *at = &host, *gpu = NULL;
  if (!file) refuse("$NVML_HOST cannot be read", path ? path : "it is not set");
  memset(&host, 0, sizeof host), memset(gpus, 0, sizeof gpus), memset(migs, 0, sizeof migs);
  gpu_count = mig_count = 0;
  while (fgets(text, sizeof text, file)) {
    if (sscanf(text, " %63s", key) < 1 || key[0] == '#') continue;
    if (!strcmp(key, "gpu")) {
      if (gpu_count == MOST_DEVICES) refuse("too many GPUs", text);
      at = gpu = &gpus[gpu_count++];
    } else if (!strcmp(key, "mig")) {
      if (!gpu || mig_count == MOST_DEVICES) refuse("no GPU for the MIG device, or too many", text);
      at = &migs[mig_count++];
      at->parent = gpu;
    } else {
      add(at, text);
    }
  }
  fclose(file);
}

static const char *value_of(const device_t *of, const char *key) {
  for (int at = 0; at < of->lines; at++)
    if (!strcmp(of->line[at].key, key)) return of->line[at].value;
  return NULL;
}

/* "answer nvmlDeviceGetName 15", "answer * hang": the number to return instead of an answer; 0 where there is none. */
static int planned(const device_t *of, const char *function) {
  char name[64], what[16];
  for (int at = 0; at < of->lines; at++) {
    if (strcmp(of->line[at].key, "answer")) continue;
    if (sscanf(of->line[at].value, "%63s %15s", name, what) < 2) refuse("answer FUNCTION WHAT", of->line[at].value);
    if (strcmp(name, "*") && strcmp(name, function)) continue;
    return !strcmp(what, "hang") ? HANG : !strcmp(what, "crash") ? CRASH : atoi(what);
  }
  return 0;
}

static int play(int value) {
  if (value == HANG)
    for (;;) pause();
  if (value == CRASH) raise(SIGSEGV);
  return value;
}

/* --- what every entry point begins with -------------------------------------------------------------------------- */

static int enter(const char *function) { return users ? play(planned(&host, function)) : UNINITIALIZED; }

static int enter_device(const device_t *device, const char *function) {
  int value = enter(function);
  if (value) return value;
  if (!device) return INVALID_ARGUMENT;
  return play(planned(device, function));
}

static int text_value(const device_t *of, const char *key, char *to, unsigned size) {
  const char *value = value_of(of, key);
  if (!to) return INVALID_ARGUMENT;
  if (!value) return NOT_SUPPORTED;
  if (strlen(value) + 1 > size) return INSUFFICIENT_SIZE;
  strcpy(to, value);
  return SUCCESS;
}

/* The number at `place` (from 0) of the line `key`. */
static int number_value(const device_t *of, const char *key, int place, unsigned long long *to) {
  const char *value = value_of(of, key);
  char *end;
  if (!value) return NOT_SUPPORTED;
  do {
    *to = strtoull(value, &end, 0);
    if (end == value) return NOT_SUPPORTED;
    value = end;
  } while (place--);
  return SUCCESS;
}

static int number(const device_t *of, const char *function, const char *key, int place, unsigned *to) {
  unsigned long long found = 0;
  int value = enter_device(of, function);
  if (!value) value = to ? number_value(of, key, place, &found) : INVALID_ARGUMENT;
  if (!value) *to = (unsigned)found;
  return value;
}

static int pair(const device_t *of, const char *function, const char *key, unsigned *first, unsigned *second) {
  int value = number(of, function, key, 0, first);
  return value ? value : number(of, function, key, 1, second);
}

static int text(const device_t *of, const char *function, const char *key, char *to, unsigned size) {
  int value = enter_device(of, function);
  return value ? value : text_value(of, key, to, size);
}

/* --- the library ------------------------------------------------------------------------------------------------- */

static int start(const char *function) {
  int value;
  read_host();
  value = play(planned(&host, "nvmlInit"));
  if (!value) value = play(planned(&host, function));
  if (!value) users++;
  return value;
}

int nvmlInit_v2(void) { return start(__func__); }
int nvmlInitWithFlags(unsigned flags) { (void)flags; return start(__func__); }

int nvmlShutdown(void) {
  int value = enter(__func__);
  if (!value) users--;
  return value;
}

const char *nvmlErrorString(int value) {
  static const char *const words[] = {
    [0] = "Success", [1] = "Uninitialized", [2] = "Invalid Argument", [3] = "Not Supported",
    [4] = "Insufficient Permissions", [5] = "Already Initialized", [6] = "Not Found", [7] = "Insufficient Size",
    [8] = "Insufficient External Power", [9] = "Driver Not Loaded", [10] = "Timeout", [11] = "Interrupt Request Issue",
    [12] = "NVML Shared Library Not Found", [13] = "Function Not Found", [14] = "Corrupted infoROM",
    [15] = "GPU is lost", [16] = "GPU requires reset", [17] = "The operating system has blocked the request",
    [18] = "Driver/library version mismatch", [19] = "In use by another client", [20] = "Insufficient Memory",
    [21] = "No data", [23] = "Insufficient Resources", [25] = "Argument version mismatch", [26] = "Deprecated",
    [27] = "System is not ready", [28] = "GPU not found", [29] = "Invalid state",
  };
  const int known = value >= 0 && value < (int)(sizeof words / sizeof *words) && words[value];
  return known ? words[value] : "Unknown Error";
}

int nvmlSystemGetDriverVersion(char *to, unsigned size) { return text(&host, __func__, "driver", to, size); }
int nvmlSystemGetNVMLVersion(char *to, unsigned size) { return text(&host, __func__, "nvml", to, size); }
int nvmlSystemGetCudaDriverVersion(int *to) { return number(&host, __func__, "cuda", 0, (unsigned *)to); }
int nvmlSystemGetCudaDriverVersion_v2(int *to) { return number(&host, __func__, "cuda", 0, (unsigned *)to); }

int nvmlDeviceGetCount_v2(unsigned *to) {
  int value = enter(__func__);
  if (!value) *to = (unsigned)gpu_count;
  return value;
}

/* --- handles ----------------------------------------------------------------------------------------------------- */

static int hand_out(device_t *device, const char *function, device_t **to) {
  int value = play(planned(device, function));
  if (!value) *to = device;
  return value;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, device_t **to) {
  int value = enter(__func__);
  if (value) return value;
  return to && index < (unsigned)gpu_count ? hand_out(&gpus[index], __func__, to) : INVALID_ARGUMENT;
}

static int by_value(const char *function, const char *key, const char *wanted, device_t **to) {
  int value = enter(function);
  if (value) return value;
  if (!wanted || !to) return INVALID_ARGUMENT;
  for (int at = 0; at < gpu_count + mig_count; at++) {
    device_t *device = at < gpu_count ? &gpus[at] : &migs[at - gpu_count];
    const char *found = value_of(device, key);
    size_t skip = 0; /* "0000:01:00.0" is asked for as well as "00000000:01:00.0" */
    if (found && !strcmp(key, "bus_id") && strlen(wanted) == 12 && strlen(found) == 16) skip = 4;
    if (found && !strcasecmp(found + skip, wanted)) return hand_out(device, function, to);
  }
  return NOT_FOUND;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, device_t **to) { return by_value(__func__, "uuid", uuid, to); }
int nvmlDeviceGetHandleByPciBusId_v2(const char *id, device_t **to) { return by_value(__func__, "bus_id", id, to); }

/* --- one device -------------------------------------------------------------------------------------------------- */

int nvmlDeviceGetName(device_t *of, char *to, unsigned size) { return text(of, __func__, "name", to, size); }
int nvmlDeviceGetUUID(device_t *of, char *to, unsigned size) { return text(of, __func__, "uuid", to, size); }
int nvmlDeviceGetSerial(device_t *of, char *to, unsigned size) { return text(of, __func__, "serial", to, size); }

int nvmlDeviceGetIndex(device_t *of, unsigned *to) {
  int value = enter_device(of, __func__);
  if (!value) *to = (unsigned)(of->parent ? of - migs : of - gpus);
  return value;
}

static int pci_info(const device_t *of, const char *function, pci_t *to, int version) {
  int value = enter_device(of, function);
  char id[32];
  unsigned long long number = 0;
  if (value) return value;
  if ((value = text_value(of, "bus_id", id, sizeof id))) return value;
  memset(to, 0, version == 3 ? sizeof *to : sizeof *to - sizeof to->bus_id + 16); /* v2 ends with four numbers */
  if (sscanf(id, "%x:%x:%x", &to->domain, &to->bus, &to->device) < 3) refuse("a bus_id", id);
  snprintf(to->legacy, sizeof to->legacy, "%04X:%02X:%02X.0", to->domain & 0xFFFF, to->bus & 0xFF, to->device & 0xFF);
  if (version == 3) strcpy(to->bus_id, id);
  if (!number_value(of, "device_id", 0, &number)) to->id = (unsigned)number;
  if (!number_value(of, "subsystem_id", 0, &number)) to->subsystem = (unsigned)number;
  return SUCCESS;
}

int nvmlDeviceGetPciInfo_v2(device_t *of, pci_t *to) { return pci_info(of, __func__, to, 2); }
int nvmlDeviceGetPciInfo_v3(device_t *of, pci_t *to) { return pci_info(of, __func__, to, 3); }

/* "memory_mib TOTAL USED RESERVED" */
static int memory(const device_t *of, const char *function, unsigned long long *total, unsigned long long *used,
                  unsigned long long *reserved) {
  int value = enter_device(of, function);
  *used = *reserved = 0;
  if (!value) value = number_value(of, "memory_mib", 0, total);
  if (value) return value;
  number_value(of, "memory_mib", 1, used), number_value(of, "memory_mib", 2, reserved);
  *total <<= 20, *used <<= 20, *reserved <<= 20;
  return SUCCESS;
}

int nvmlDeviceGetMemoryInfo(device_t *of, memory_t *to) {
  unsigned long long reserved;
  int value = memory(of, __func__, &to->total, &to->used, &reserved);
  if (!value) to->used += reserved, to->free = to->total - to->used; /* version 1 counts them as one */
  return value;
}

int nvmlDeviceGetMemoryInfo_v2(device_t *of, memory_v2_t *to) {
  if (to->version != MEMORY_V2) return VERSION_MISMATCH;
  int value = memory(of, __func__, &to->total, &to->used, &to->reserved);
  if (!value) to->free = to->total - to->used - to->reserved;
  return value;
}

int nvmlDeviceGetCudaComputeCapability(device_t *of, int *major, int *minor) {
  return pair(of, __func__, "compute_capability", (unsigned *)major, (unsigned *)minor);
}

/* --- MIG --------------------------------------------------------------------------------------------------------- */

int nvmlDeviceGetMigMode(device_t *of, unsigned *now, unsigned *pending) {
  return pair(of, __func__, "mig_mode", now, pending);
}
int nvmlDeviceGetMaxMigDeviceCount(device_t *of, unsigned *to) { return number(of, __func__, "mig_most", 0, to); }

int nvmlDeviceGetMigDeviceHandleByIndex(device_t *of, unsigned index, device_t **to) {
  unsigned long long most = 0;
  int value = enter_device(of, __func__);
  if (value) return value;
  if (number_value(of, "mig_most", 0, &most)) return NOT_SUPPORTED;
  if (index >= most) return INVALID_ARGUMENT;
  for (int at = 0; at < mig_count; at++)
    if (migs[at].parent == of && !index--) return hand_out(&migs[at], __func__, to);
  return NOT_FOUND;
}

int nvmlDeviceIsMigDeviceHandle(device_t *of, unsigned *to) {
  int value = enter_device(of, __func__);
  if (!value) *to = of->parent != NULL;
  return value;
}

int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(device_t *of, device_t **to) {
  int value = enter_device(of, __func__);
  if (!value && !of->parent) return INVALID_ARGUMENT;
  if (!value) *to = of->parent;
  return value;
}

/* --- health ------------------------------------------------------------------------------------------------------ */

#define NUMBER(function, key, place) \
  int function(device_t *of, unsigned *to) { return number(of, __func__, key, place, to); }

/* "pcie WIDTH WIDEST GENERATION NEWEST CARDS_NEWEST": the card's own newest may be above what the slot lets it be. */
NUMBER(nvmlDeviceGetCurrPcieLinkWidth, "pcie", 0)
NUMBER(nvmlDeviceGetMaxPcieLinkWidth, "pcie", 1)
NUMBER(nvmlDeviceGetCurrPcieLinkGeneration, "pcie", 2)
NUMBER(nvmlDeviceGetMaxPcieLinkGeneration, "pcie", 3)
NUMBER(nvmlDeviceGetGpuMaxPcieLinkGeneration, "pcie", 4)
/* "power_mw NOW LIMIT DEFAULT LEAST MOST" */
NUMBER(nvmlDeviceGetPowerUsage, "power_mw", 0)
NUMBER(nvmlDeviceGetPowerManagementLimit, "power_mw", 1)
NUMBER(nvmlDeviceGetEnforcedPowerLimit, "power_mw", 1)
NUMBER(nvmlDeviceGetPowerManagementDefaultLimit, "power_mw", 2)
NUMBER(nvmlDeviceGetPersistenceMode, "persistence", 0)
NUMBER(nvmlDeviceGetMinorNumber, "minor", 0)

int nvmlDeviceGetPowerManagementLimitConstraints(device_t *of, unsigned *least, unsigned *most) {
  int value = number(of, __func__, "power_mw", 3, least);
  return value ? value : number(of, __func__, "power_mw", 4, most);
}

static int reasons(const device_t *of, const char *function, unsigned long long *to) {
  int value = enter_device(of, function);
  return value ? value : number_value(of, "throttle", 0, to);
}

int nvmlDeviceGetCurrentClocksThrottleReasons(device_t *of, unsigned long long *to) { return reasons(of, __func__, to); }
int nvmlDeviceGetCurrentClocksEventReasons(device_t *of, unsigned long long *to) { return reasons(of, __func__, to); }

/* "clocks_mhz" and "clocks_max_mhz": GRAPHICS SM MEMORY VIDEO, the order of nvmlClockType_t */
int nvmlDeviceGetClockInfo(device_t *of, unsigned type, unsigned *to) {
  return type > 3 ? INVALID_ARGUMENT : number(of, __func__, "clocks_mhz", (int)type, to);
}
int nvmlDeviceGetMaxClockInfo(device_t *of, unsigned type, unsigned *to) {
  return type > 3 ? INVALID_ARGUMENT : number(of, __func__, "clocks_max_mhz", (int)type, to);
}

int nvmlDeviceGetTemperature(device_t *of, unsigned sensor, unsigned *to) {
  return sensor ? INVALID_ARGUMENT : number(of, __func__, "temperature_c", 0, to);
}
int nvmlDeviceGetTemperatureV(device_t *of, temperature_t *to) {
  if (to->version != TEMPERATURE_V1) return VERSION_MISMATCH;
  return to->sensor ? INVALID_ARGUMENT : number(of, __func__, "temperature_c", 0, (unsigned *)&to->value);
}

int nvmlDeviceGetUtilizationRates(device_t *of, utilization_t *to) {
  return pair(of, __func__, "utilization", &to->gpu, &to->memory);
}

/* "process PID MIB", a line each. As NVML: asked with too little room it says how much is needed. */
int nvmlDeviceGetComputeRunningProcesses_v3(device_t *of, unsigned *count, process_t *to) {
  unsigned found = 0, room;
  int value = enter_device(of, __func__);
  if (value) return value;
  if (!count) return INVALID_ARGUMENT;
  room = *count;
  for (int at = 0; at < of->lines; at++) {
    process_t one = {0, 0, 0xFFFFFFFF, 0xFFFFFFFF};
    if (strcmp(of->line[at].key, "process")) continue;
    if (sscanf(of->line[at].value, "%u %llu", &one.pid, &one.memory) < 2) refuse("a process", of->line[at].value);
    one.memory <<= 20;
    if (found < room && to) to[found] = one;
    found++;
  }
  *count = found;
  return found > room ? INSUFFICIENT_SIZE : SUCCESS;
}
