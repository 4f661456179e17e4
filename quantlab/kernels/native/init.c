/* What this library was compiled for and may use, and its scratch memory. No kernel is here. */
#define _GNU_SOURCE
#include "native.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

enum level { NOTHING = 0, VNNI = 1, AMX = 2, AMX_REFUSED = -1 };

/* To be called once, before anything else. Linux hands a process the tile registers only when it asks. */
int native_init(void) {
#if HAS_AMX
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };
    return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0 ? AMX : AMX_REFUSED;
#elif HAS_VNNI
    return VNNI;
#else
    return NOTHING;
#endif
}

struct memory {
    void *start[SCRATCH_SLOTS];
    size_t bytes[SCRATCH_SLOTS];
};

static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void release(void *pointer) {
    struct memory *memory = pointer;
    for (int slot = 0; slot < SCRATCH_SLOTS; slot++)
        free(memory->start[slot]);
    free(memory);
}

static void create_key(void) { pthread_key_create(&key, release); }

void *scratch(int slot, size_t bytes) {
    pthread_once(&once, create_key);
    struct memory *memory = pthread_getspecific(key);
    if (memory == NULL) {
        memory = calloc(1, sizeof *memory);
        if (memory == NULL || pthread_setspecific(key, memory) != 0) {
            free(memory);
            return NULL;
        }
    }
    if (memory->bytes[slot] < bytes) {
        free(memory->start[slot]);
        memory->bytes[slot] = 0;
        if (posix_memalign(&memory->start[slot], 64, bytes) != 0) {
            memory->start[slot] = NULL;
            return NULL;
        }
        memory->bytes[slot] = bytes;
    }
    return memory->start[slot];
}
