/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * thumbnails.c - makes small pictures of large ones, in six versions.
 *
 *     build/thumbnails        (it makes the large ones itself, in a directory of its own)
 *
 * What to notice: 1 is serial. 2 starts a goroutine for each picture and does not wait: wrong. 3
 * counts the answers. 4 returns with the first error, and the goroutines that still want to answer
 * wait for ever: wrong, and hard to see. 5 has room for all answers, each with its name and its
 * error. 6 gets the names from a channel, so it cannot know how many there will be; when all
 * goroutines have ended the channel of the sizes is closed, and with it the loop that adds them
 * up.
 */
// check: tsan
#define _GNU_SOURCE // mkdtemp
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PICTURES = 8, WIDTH = 96, HEIGHT = 64, SCALE = 4 };

typedef struct name {
    char path[96];
} name;

typedef struct picture {
    int width, height;
    unsigned char *rgb;
} picture;

/* ---- pictures, as binary PPM ---- */

static int picture_write(const char *path, const picture *p)
{
    FILE *f = fopen(path, "wb");
    if (f == NULL) return errno;
    size_t n = (size_t)(3 * p->width * p->height);
    bool ok =
        fprintf(f, "P6\n%d %d\n255\n", p->width, p->height) > 0 && fwrite(p->rgb, 1, n, f) == n;
    return fclose(f) == 0 && ok ? 0 : EIO;
}

static int picture_read(const char *path, picture *p)
{
    FILE *f = fopen(path, "rb");
    if (f == NULL) return errno;
    int error = EINVAL;
    p->rgb = NULL;
    if (fscanf(f, "P6 %d %d 255", &p->width, &p->height) == 2 && fgetc(f) == '\n' && p->width > 0 &&
        p->height > 0 && p->width < 10000 && p->height < 10000) {
        size_t n = (size_t)(3 * p->width * p->height);
        p->rgb = malloc(n);
        error = p->rgb == NULL ? ENOMEM : fread(p->rgb, 1, n, f) == n ? 0 : EINVAL;
    }
    fclose(f);
    return error;
}

/* Each pixel is the mean of SCALE x SCALE. */
static picture scaled(const picture *p)
{
    picture s = {p->width / SCALE, p->height / SCALE, NULL};
    s.rgb = calloc((size_t)(s.width * s.height), 3);
    for (int i = 0; s.rgb != NULL && i < 3 * s.width * s.height; i++) {
        int x = i / 3 % s.width * SCALE, y = i / 3 / s.width * SCALE, sum = 0;
        for (int k = 0; k < SCALE * SCALE; k++)
            sum += p->rgb[3 * ((y + k / SCALE) * p->width + x + k % SCALE) + i % 3];
        s.rgb[i] = (unsigned char)(sum / (SCALE * SCALE));
    }
    return s;
}

typedef struct thumb {
    name of, file;
    int error;
    int64_t bytes;
} thumb;

static atomic_int made;

static thumb make_thumb(name of)
{
    thumb t = {.of = of};
    picture large = {0, 0, NULL}, small = {0, 0, NULL};
    snprintf(t.file.path, sizeof t.file.path, "%.80s.small.ppm", of.path);
    t.error = picture_read(of.path, &large);
    if (t.error == 0) {
        small = scaled(&large);
        t.error = small.rgb == NULL ? ENOMEM : picture_write(t.file.path, &small);
        t.bytes = 3 * small.width * small.height;
    }
    free(large.rgb);
    free(small.rgb);
    made += t.error == 0;
    return t;
}

/* ---- 1 ---- */

static void serial(const name *names, int n)
{
    for (int i = 0; i < n; i++) make_thumb(names[i]);
    printf("1 serial: %d made\n", made);
}

/* ---- 2: wrong ---- */

csp_task(just_make, name, of)
{
    make_thumb(of);
}

static void not_waited_for(const name *names, int n)
{
    for (int i = 0; i < n; i++) csp_go(just_make, names[i]);
    fprintf(stderr, "2 not waited for: %d made so far\n", made);
}

/* ---- 3 ---- */

csp_task(make_and_tell, name, of, csp_sender(bool), done)
{
    make_thumb(of);
    csp_send(done, true);
}

static void waited_for(const name *names, int n)
{
    csp_chan(bool) done = csp_make(bool, 0);
    for (int i = 0; i < n; i++) csp_go(make_and_tell, names[i], csp_send_end(done));
    for (int i = 0; i < n; i++) csp_recv(done, NULL);
    printf("3 waited for: %d made\n", made);
    csp_unref(done);
}

/* ---- 4: wrong; 5 is the same with room for all ---- */

csp_task(make_and_answer, name, of, csp_chan(thumb), out)
{
    csp_send(out, make_thumb(of));
    csp_unref(out);
}

static int first_error(const name *names, int n, csp_chan(thumb) out)
{
    thumb t = {.error = 0};
    for (int i = 0; i < n; i++) csp_go(make_and_answer, names[i], csp_ref(out));
    for (int i = 0; i < n && t.error == 0; i++) csp_recv(out, &t);
    return t.error;
}

static void errors(const char *how, const name *names, int n, int room)
{
    csp_chan(thumb) out = csp_make(thumb, room);
    int error = first_error(names, n, out);
    for (int i = 0; i < (room > 0 ? 10000 : 100) && csp_count() > 1; i++)
        csp_sleep(CSP_MILLISECOND);
    printf("%s: %s; goroutines left behind: %s\n", how, error == 0 ? "no error" : "an error",
           csp_count() > 1 ? "some" : "none");
    while (csp_count() > 1) csp_try_recv(out, NULL), csp_yield(); // let them go after all
    csp_unref(out);
}

/* ---- 6 ---- */

csp_task(make_one, name, of, csp_sender(int64_t), sizes, csp_waitgroup *, working)
{
    thumb t = make_thumb(of);
    if (t.error == 0) csp_send(sizes, t.bytes);
    csp_waitgroup_done(working);
}

csp_task(make_all, csp_receiver(name), names, csp_sender(int64_t), sizes)
{
    csp_waitgroup working = {0};
    csp_range(of, names) {
        csp_waitgroup_add(&working, 1);
        csp_go(make_one, of, sizes, &working);
    }
    csp_waitgroup_wait(&working);
    csp_close(sizes);
}

csp_task(list, const name *, names, int, n, csp_sender(name), out)
{
    for (int i = 0; i < n; i++) csp_send(out, names[i]);
    csp_close(out);
}

static void total_bytes(const name *names, int n)
{
    csp_chan(name) files = csp_make(name, 0);
    csp_chan(int64_t) sizes = csp_make(int64_t, 0);
    int64_t total = 0;
    csp_go(list, names, n, csp_send_end(files));
    csp_go(make_all, csp_recv_end(files), csp_send_end(sizes));
    csp_range(size, sizes) total += size;
    printf("6 total: %d bytes\n", (int)total);
    csp_unref(files);
    csp_unref(sizes);
}

csp_main(argc, argv)
{
    char directory[] = "/tmp/thumbnails.XXXXXX";
    name names[PICTURES + 2];
    unsigned char rgb[3 * WIDTH * HEIGHT];
    picture p = {WIDTH, HEIGHT, rgb};
    if (mkdtemp(directory) == NULL) return 1;
    for (int i = 0; i < PICTURES + 2; i++) {
        for (size_t k = 0; k < sizeof rgb; k++) rgb[k] = (unsigned char)(k * (size_t)(i + 1) / 7);
        snprintf(names[i].path, sizeof names[i].path, "%s/%d.ppm", directory, i);
        if (i < PICTURES && picture_write(names[i].path, &p) != 0) return 1; // two are missing
    }

    serial(names, PICTURES);
    made = 0;
    not_waited_for(names, PICTURES);
    while (csp_count() > 1) csp_yield();
    made = 0;
    waited_for(names, PICTURES);
    errors("4 the first error", names, PICTURES + 2, 0);
    errors("5 room for all", names, PICTURES + 2, PICTURES + 2);
    total_bytes(names, PICTURES + 2);

    picture small;
    thumb t = make_thumb(names[0]);
    printf("a small one is %s\n",
           t.error == 0 && picture_read(t.file.path, &small) == 0 && small.width == WIDTH / SCALE
               ? "a picture, a quarter as wide"
               : "broken");
    free(small.rgb);
    for (int i = 0; i < PICTURES; i++) {
        unlink(make_thumb(names[i]).file.path);
        unlink(names[i].path);
    }
    rmdir(directory);
    return 0;
}
