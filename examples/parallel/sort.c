/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * sort.c - a stable sort on all processors: sort.h beside this file.
 *
 * What to notice: parallel_sort is called as qsort is, from a goroutine or from any thread. The
 * people below are sorted by age, and those of one age stay in the order of their names.
 * `sort 1000000` says how long that many take.
 */
// check: tsan windows
#define CSP_IMPLEMENTATION
#include "csp.h"
#include "sort.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct person {
    int number, age;
} person;

static int by_age(const void *a, const void *b)
{
    int x = ((const person *)a)->age, y = ((const person *)b)->age;
    return (x > y) - (x < y);
}

csp_main(argc, argv)
{
    size_t n = argc > 1 ? (size_t)atoll(argv[1]) : 100000;
    person *people = malloc(n * sizeof *people);
    uint32_t x = 1;
    if (people == NULL) return 1;
    for (size_t i = 0; i < n; i++)
        people[i] = (person){(int)i, (int)((x = x * 1664525u + 1013904223u) >> 16) % 100};
    int64_t began = csp_now();
    if (parallel_sort(people, n, sizeof *people, by_age) != 0) return 2;
    int64_t took = csp_now() - began;
    if (argc > 1) printf("sort: %.1f ms\n", (double)took / 1e6);
    for (size_t i = 1; i < n; i++)
        if (people[i - 1].age > people[i].age ||
            (people[i - 1].age == people[i].age && people[i - 1].number > people[i].number))
            return 3;
    printf("sorted, and those of one age in their order\n");
    free(people);
    return 0;
}
