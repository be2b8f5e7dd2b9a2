/* Work items over a few threads. What an item computes does not depend on who computes it. */
#ifndef MERISTEM_THREADS_H
#define MERISTEM_THREADS_H

#include <pthread.h>
#include <stdint.h>

typedef void (*item_function)(void *job, int64_t item, int worker);

typedef struct {
    item_function run;
    void *job;
    int64_t items;
    int64_t next;
    int workers;
} work;

static void *work_on(void *given) {
    work *all = given;
    const int worker = __atomic_fetch_add(&all->workers, 1, __ATOMIC_RELAXED);
    for (;;) {
        const int64_t item = __atomic_fetch_add(&all->next, 1, __ATOMIC_RELAXED);
        if (item >= all->items) return NULL;
        all->run(all->job, item, worker);
    }
}

/* Runs all items; `worker` counts from 0 to threads − 1. A thread that cannot start is done without. */
static void run_items(item_function run, void *job, int64_t items, int threads) {
    enum { MOST = 256 };
    pthread_t started[MOST];
    work all = {run, job, items, 0, 0};
    int count = 0;
    if (threads > items) threads = (int)items;
    if (threads > MOST) threads = MOST;
    while (count < threads - 1 && pthread_create(&started[count], NULL, work_on, &all) == 0) count++;
    work_on(&all);
    for (int i = 0; i < count; i++) pthread_join(started[i], NULL);
}

#endif
