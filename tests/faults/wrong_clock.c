/* A wall clock that is wrong by as many seconds as the file $WRONG_CLOCK says, at every look.
 *
 * Only the wall clock: what Python and SQLite ask for the time of day. The steady clock, the times
 * of files and every wait stay true; libfaketime, for one, spoils Python's way of sleeping. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long offset(void)
{
    char text[32];
    const char *path = getenv("WRONG_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        return 0;
    ssize_t length = read(file, text, sizeof text - 1);
    close(file);
    text[length > 0 ? length : 0] = 0;
    return atol(text);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int result = syscall(SYS_clock_gettime, clock, now);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += offset();
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    int result = syscall(SYS_gettimeofday, now, zone);
    if (result == 0)
        now->tv_sec += offset();
    return result;
}

time_t time(time_t *now)
{
    struct timespec true_now;
    clock_gettime(CLOCK_REALTIME, &true_now);
    if (now)
        *now = true_now.tv_sec;
    return true_now.tv_sec;
}

/* The end of the wait was reckoned by the wrong clock. */
int sem_timedwait(sem_t *restrict semaphore, const struct timespec *restrict end)
{
    static int (*original)(sem_t *, const struct timespec *);
    struct timespec true_end = {end->tv_sec - offset(), end->tv_nsec};
    if (!original)
        original = (int (*)(sem_t *, const struct timespec *))dlsym(RTLD_NEXT, "sem_timedwait");
    return original(semaphore, &true_end);
}
