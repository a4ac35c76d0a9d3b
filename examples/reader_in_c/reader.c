/* Prints what a queue of persipubsub holds, from its file data.mdb alone: no library but C's own.
 *
 * It is written after docs/reference/format.rst and proves that page. It takes no lock, so give it a
 * queue that nobody has open, or a backup. Words of LMDB's pages are in the machine's byte order
 * (little-endian wherever persipubsub runs), those of persipubsub's keys and records big-endian.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct { const uint8_t *at; uint64_t size; } Span;
typedef void Visit(Span key, Span value, int flags);

static Span file;
static uint64_t page_size;

static void fail(const char *what) { fprintf(stderr, "reader: %s\n", what); exit(1); }

static uint64_t little(const uint8_t *p, int n) { uint64_t v = 0; while (n--) v = v << 8 | p[n]; return v; }

/* -- reading from a span: what is not there is an error, never a crash ------------------------- */

static const uint8_t *take(Span *s, uint64_t n) {
    if (n > s->size) fail("a record is too short");
    const uint8_t *p = s->at;
    s->at += n; s->size -= n;
    return p;
}
static Span cut(Span *s, uint64_t n) { Span found = { take(s, n), n }; return found; }
static uint64_t big(Span *s, int n) {
    const uint8_t *p = take(s, n);
    uint64_t v = 0;
    while (n--) v = v << 8 | *p++;
    return v;
}

/* -- LMDB: pages, trees ------------------------------------------------------------------------ */

static Span page(uint64_t number, uint64_t bytes) {
    if (number > file.size / page_size || number * page_size + bytes > file.size) fail("a page lies beyond the end");
    Span found = { file.at + number * page_size, bytes };
    return found;
}

enum { BRANCH = 1, LEAF = 2, BIG = 1, SUB = 2 };

static void walk(uint64_t number, int depth, Visit *visit) {
    Span p = page(number, page_size);
    if (depth > 32) fail("a tree is too deep");
    int flags = little(p.at + 10, 2), count = ((int)little(p.at + 12, 2) - 16) / 2;
    if (!(flags & (BRANCH | LEAF)) || count < 0 || 16 + 2 * (uint64_t)count > page_size) fail("a page of another kind");
    for (int i = 0; i < count; i++) {
        uint64_t offset = little(p.at + 16 + 2 * i, 2);
        if (offset + 8 > page_size) fail("a node lies beyond its page");
        Span node = { p.at + offset, page_size - offset };
        uint64_t low = little(node.at, 4), node_flags = little(node.at + 4, 2), key_size = little(node.at + 6, 2);
        take(&node, 8);
        if (flags & BRANCH) { walk(low | node_flags << 32, depth + 1, visit); continue; }
        Span key = cut(&node, key_size), value;
        if (node_flags & BIG) {  /* the value has pages of its own, behind one header */
            value = page(little(take(&node, 8), 8), 16 + low);
            take(&value, 16);
        } else value = cut(&node, low);
        visit(key, value, node_flags);
    }
}

static void walk_tree(const uint8_t *tree, Visit *visit) {
    uint64_t root = little(tree + 40, 8);
    if (root != UINT64_MAX) walk(root, 0, visit);  /* all ones: the tree is empty */
}

/* -- the trees of the queue, by their names in the main tree ------------------------------------ */

static struct { const char *name; uint8_t tree[48]; int found; } trees[] = {
    { "data_db", { 0 }, 0 }, { "meta_db", { 0 }, 0 }, { "queue_db", { 0 }, 0 }, { "subscriber_db", { 0 }, 0 } };
enum { DATA, META, QUEUE, SUBSCRIBER, TREES };

static void note_tree(Span key, Span value, int flags) {
    for (int i = 0; i < TREES; i++)
        if (flags & SUB && value.size == 48 && key.size == strlen(trees[i].name)
            && !memcmp(key.at, trees[i].name, key.size)) {
            memcpy(trees[i].tree, value.at, 48);
            trees[i].found = 1;
        }
}

/* -- MessagePack: as much of it as the records have --------------------------------------------- */

static uint64_t number_of(Span *s) {
    uint8_t kind = *take(s, 1);
    if (kind < 0x80) return kind;
    if (kind >= 0xcc && kind <= 0xcf) return big(s, 1 << (kind - 0xcc));
    fail("no number where one should be");
    return 0;
}
static uint64_t count_of(Span *s, uint8_t few, uint8_t many) {  /* the length of an array or a map */
    uint8_t kind = *take(s, 1);
    if ((kind & 0xf0) == few) return kind & 0x0f;
    if (kind == many || kind == many + 1) return big(s, kind == many ? 2 : 4);
    fail("no array or map where one should be");
    return 0;
}
static Span text_of(Span *s) {  /* str or bin */
    uint8_t kind = *take(s, 1);
    if ((kind & 0xe0) == 0xa0) return cut(s, kind & 0x1f);
    if (kind >= 0xd9 && kind <= 0xdb) return cut(s, big(s, 1 << (kind - 0xd9)));
    if (kind >= 0xc4 && kind <= 0xc6) return cut(s, big(s, 1 << (kind - 0xc4)));
    fail("no text where one should be");
    return *s;
}

/* -- the queue ----------------------------------------------------------------------------------- */

static void print_text(Span s) { fwrite(s.at, 1, s.size, stdout); }
static void print_hex(Span s) { while (s.size) printf("%02x", *take(&s, 1)); }

static Span *payloads;  /* in the order of the ids, as data_db and meta_db have the same keys */
static uint64_t payload_count, message_count;
static Span gone;  /* the ranges of ids that a limit took, but whose records are not deleted yet */
static uint64_t gone_count;

static int is_gone(uint64_t id) {
    Span ranges = gone;
    for (uint64_t n = gone_count; n; n--) {
        if (count_of(&ranges, 0x90, 0xdc) != 2) fail("a range of ids is no pair");
        uint64_t first = number_of(&ranges), end = number_of(&ranges);
        if (first <= id && id < end) return 1;
    }
    return 0;
}

static void note_payload(Span key, Span value, int flags) {
    (void)key; (void)flags;
    if (!(payload_count & (payload_count + 1)))  /* room for twice as many, at 0, 1, 3, 7 and so on */
        payloads = realloc(payloads, (2 * payload_count + 2) * sizeof *payloads);
    if (!payloads) fail("no memory");
    payloads[payload_count++] = value;
}

static void print_message(Span key, Span meta, int flags) {
    (void)flags;
    uint64_t id = big(&key, 8), sent = big(&meta, 8), checksum = big(&meta, 8);
    if (message_count >= payload_count) fail("a message has no payload");
    Span payload = payloads[message_count++];
    if (is_gone(id)) return;
    int has = *take(&meta, 1);  /* 1: not before, 2: expires, 4: topic, 8: headers */
    printf("message %llu sent %llu checksum %016llx", (unsigned long long)id, (unsigned long long)sent,
           (unsigned long long)checksum);
    if (has & 1) printf(" not_before %llu", (unsigned long long)big(&meta, 8));
    if (has & 2) printf(" expires %llu", (unsigned long long)big(&meta, 8));
    if (has & 4) { printf(" topic "); uint64_t length = big(&meta, 2); print_text(cut(&meta, length)); }
    if (has & 8)
        for (uint64_t n = count_of(&meta, 0x80, 0xde); n; n--) {
            printf(" header "); print_text(text_of(&meta)); printf("="); print_hex(text_of(&meta));
        }
    printf(" payload "); print_hex(payload); printf("\n");
}

enum { DOOMED = 18 };  /* the place of that field in the state, from 0 */

static void print_about(Span key, Span value, int flags) {
    (void)flags;
    if (key.size == 8 && !memcmp(key.at, "identity", 8)) { printf("queue "); print_text(value); printf("\n"); }
    if (key.size == 6 && !memcmp(key.at, "format", 6)) {
        if (count_of(&value, 0x90, 0xdc) < 2) fail("the format record is too short");
        printf("format "); print_text(text_of(&value)); printf(" %llu\n", (unsigned long long)number_of(&value));
    }
    if (key.size == 5 && !memcmp(key.at, "state", 5) && count_of(&value, 0x90, 0xdc) > DOOMED) {
        for (int i = 0; i < DOOMED; i++) number_of(&value);
        gone_count = count_of(&value, 0x90, 0xdc);
        gone = value;
    }
}

static void print_subscriber(Span key, Span record, int flags) {
    (void)flags;
    if (count_of(&record, 0x90, 0xdc) < 2) fail("the record of a subscriber is too short");
    number_of(&record);  /* its number */
    printf("subscriber "); print_text(key); printf(" position %llu\n", (unsigned long long)number_of(&record));
}

int main(int argc, char **argv) {
    FILE *in = argc == 2 ? fopen(argv[1], "rb") : NULL;
    if (!in || fseek(in, 0, SEEK_END)) fail("usage: reader QUEUE/data.mdb");
    long size = ftell(in);
    uint8_t *bytes = size > 152 ? malloc(size) : NULL;
    rewind(in);
    if (!bytes || fread(bytes, 1, size, in) != (size_t)size) fail("the file cannot be read, or is too short");
    file.at = bytes; file.size = size;

    /* Pages 0 and 1 are meta pages; the one with the higher transaction number holds. */
    page_size = little(bytes + 40, 4);
    if (page_size < 512 || page_size > 65536 || 2 * page_size > file.size) fail("not a file of LMDB 0.9");
    const uint8_t *meta = bytes + 16, *other = bytes + page_size + 16;
    for (const uint8_t *each = meta;; each = other) {
        if (little(each, 4) != 0xBEEFC0DE || little(each + 4, 4) != 1) fail("not a file of LMDB 0.9");
        if (each == other) break;
    }
    if (little(other + 128, 8) > little(meta + 128, 8)) meta = other;
    walk_tree(meta + 72, note_tree);
    for (int i = 0; i < TREES; i++) if (!trees[i].found) fail("not a queue of persipubsub");

    walk_tree(trees[QUEUE].tree, print_about);
    walk_tree(trees[DATA].tree, note_payload);
    walk_tree(trees[META].tree, print_message);
    walk_tree(trees[SUBSCRIBER].tree, print_subscriber);
    return 0;
}
