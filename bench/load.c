/* A load of DNS queries over UDP, from one thread that is not what saturates.
 *
 * load PORT SECONDS RATE WINDOW SOCKETS FIRST NAMES PATIENCE UPSTREAM
 *
 * Asks 127.0.0.1 for the A records of n<i>.load.example, with i in seven digits from
 * FIRST on, NAMES of them in turn. With RATE 0 there are always WINDOW queries under way:
 * what comes then is what the server can. Otherwise RATE queries are sent a second,
 * whether or not replies come. Datagrams are sent and received many at a time, by sockets
 * that are polled and never slept on, so that to wake this program costs the server
 * nothing. When nothing has come for PATIENCE seconds, what is under way is lost. With a
 * descriptor UPSTREAM >= 0 it is the server's upstream as well, and answers what comes
 * to that socket in the same way: no other process is to be woken, or to be waited for.
 * What it prints is JSON. "idle" is the share of the time in which nothing had
 * come: if that is next to 0, the load was the limit and not the server.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/udp.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum { BATCH = 64, QUERY = 64, REPLY = 1500, IDS = 65536, SERVFAIL = 2 };

struct question {
    uint8_t data[QUERY];
    size_t size;
};

struct sender {
    int fd;
    uint16_t next;
    uint64_t sent_at[IDS]; /* 0: nothing with this id is under way */
    uint32_t asked[IDS];
};

static struct question *questions;
static long names, first, turn;
static uint64_t sent, answered, failed, wrong, lost, under_way;
static uint32_t *latencies; /* ns */
static uint64_t kept, room;

static struct mmsghdr in[BATCH];
static struct msghdr segment; /* many datagrams of one size: see udp(7), UDP_SEGMENT */
static union {
    struct cmsghdr header;
    char data[CMSG_SPACE(sizeof(uint16_t))];
} control;
static struct iovec out_vectors[BATCH], in_vectors[BATCH];
static uint8_t queries[BATCH][QUERY], replies[BATCH][REPLY];

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void write_question(struct question *q, long number)
{
    static const uint8_t head[12] = {0, 0, 1, 0, 0, 1};
    static const uint8_t tail[18] = "\4load\7example\0\0\1\0\1";
    char label[24];
    int length = snprintf(label, sizeof label, "n%07ld", number);
    uint8_t *at = q->data + 12;
    memcpy(q->data, head, 12);
    *at++ = (uint8_t)length;
    memcpy(at, label, (size_t)length);
    memcpy(at + length, tail, sizeof tail);
    q->size = 12 + 1 + (size_t)length + sizeof tail;
}

/* Send so many queries, or fewer if the system takes no more. */
static void ask(struct sender *s, unsigned count)
{
    uint64_t at = now();
    for (unsigned i = 0; i < count; i++) {
        struct question *q = &questions[turn % names];
        uint16_t id = (uint16_t)(s->next + i);
        memcpy(queries[i], q->data, q->size);
        queries[i][0] = (uint8_t)(id >> 8);
        queries[i][1] = (uint8_t)id;
        out_vectors[i].iov_len = q->size;
        if (s->sent_at[id]) {
            lost++;
            under_way--;
        }
        s->sent_at[id] = at;
        s->asked[id] = (uint32_t)(turn % names);
        turn++;
    }
    segment.msg_iovlen = count;
    ssize_t octets = sendmsg(s->fd, &segment, 0);
    if (octets < 0) {
        if (errno != EAGAIN && errno != ECONNREFUSED && errno != ENOBUFS)
            die("sendmsg");
        octets = 0;
    }
    int done = (int)((size_t)octets / questions[0].size);
    for (unsigned i = (unsigned)done; i < count; i++)
        s->sent_at[(uint16_t)(s->next + i)] = 0;
    turn -= (long)count - done;
    s->next += (uint16_t)done;
    sent += (uint64_t)done;
    under_way += (uint64_t)done;
}

/* Is it NOERROR with an answer, or SERVFAIL, to a question of ours that is under way? */
static void check(struct sender *s, const uint8_t *data, size_t size, uint64_t at)
{
    uint16_t id = (uint16_t)(data[0] << 8 | data[1]);
    if (size < 12 || !s->sent_at[id]) {
        wrong++;
        return;
    }
    struct question *q = &questions[s->asked[id]];
    if (kept < room)
        latencies[kept++] = (uint32_t)(at - s->sent_at[id]);
    s->sent_at[id] = 0;
    under_way--;
    if (!(data[2] & 0x80) || size < q->size ||
        memcmp(data + 12, q->data + 12, q->size - 12))
        wrong++;
    else if ((data[3] & 15) == SERVFAIL)
        failed++;
    else if (data[3] & 15 || !(data[6] | data[7]))
        wrong++;
    else
        answered++;
}

static int listen_to(struct sender *s)
{
    int count = recvmmsg(s->fd, in, BATCH, MSG_DONTWAIT, NULL);
    if (count < 0) {
        if (errno != EAGAIN && errno != EINTR && errno != ECONNREFUSED)
            die("recvmmsg");
        return 0;
    }
    uint64_t at = now();
    for (int i = 0; i < count; i++)
        check(s, replies[i], in[i].msg_len, at);
    return count;
}

/* The address of whatever is asked for at the upstream's socket, with an OPT if asked. */
static void be_upstream(int fd)
{
    static const uint8_t record[16] = {0xc0, 12, 0, 1, 0, 1, 0, 0, 14, 16, 0, 4, 192, 0, 2, 1};
    static const uint8_t opt[11] = {0, 0, 41, 4, 208};
    static uint8_t data[BATCH][REPLY];
    static struct sockaddr_in clients[BATCH];
    static struct iovec vectors[BATCH];
    static struct mmsghdr messages[BATCH];
    for (int i = 0; i < BATCH; i++) {
        vectors[i] = (struct iovec){data[i], REPLY - sizeof record - sizeof opt};
        messages[i].msg_hdr = (struct msghdr){.msg_name = &clients[i],
                                              .msg_namelen = sizeof clients[i],
                                              .msg_iov = &vectors[i],
                                              .msg_iovlen = 1};
    }
    int count = recvmmsg(fd, messages, BATCH, MSG_DONTWAIT, NULL);
    for (int i = 0; i < count; i++) {
        uint8_t *message = data[i];
        size_t end = 12, size = messages[i].msg_len;
        while (end < size && message[end])
            end += 1u + message[end];
        end += 5;
        if (end > size)
            die("what the server asks");
        int edns = message[11];
        message[2] = 0x81;
        message[3] = 0x80;
        memcpy(message + 4, "\0\1\0\1\0\0\0", 7);
        memcpy(message + end, record, sizeof record);
        end += sizeof record;
        if (edns) {
            memcpy(message + end, opt, sizeof opt);
            end += sizeof opt;
        }
        vectors[i].iov_len = end;
    }
    for (int done = 0, more; done < count; done += more)
        if ((more = sendmmsg(fd, messages + done, (unsigned)(count - done), 0)) < 1)
            die("sendmmsg");
}

static void give_up(struct sender *senders, int sockets)
{
    for (int i = 0; i < sockets; i++)
        memset(senders[i].sent_at, 0, sizeof senders[i].sent_at);
    lost += under_way;
    under_way = 0;
}

static int by_size(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static double share(double part)
{
    return kept ? latencies[(uint64_t)((double)(kept - 1) * part)] / 1e3 : 0;
}

static struct sender *open_sockets(int port, int sockets)
{
    struct sender *senders = calloc((size_t)sockets, sizeof *senders);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int buffer = 4 << 20;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (!senders)
        die("calloc");
    for (int i = 0; i < sockets; i++) {
        senders[i].fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
        if (senders[i].fd < 0 || connect(senders[i].fd, (void *)&to, sizeof to))
            die("connect");
        setsockopt(senders[i].fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
    }
    return senders;
}

int main(int argc, char **argv)
{
    if (argc != 10) {
        fputs("load PORT SECONDS RATE WINDOW SOCKETS FIRST NAMES PATIENCE UPSTREAM\n",
              stderr);
        return 2;
    }
    double seconds = atof(argv[2]), rate = atof(argv[3]);
    uint64_t window = strtoull(argv[4], NULL, 10);
    uint64_t patience = (uint64_t)(atof(argv[8]) * 1e9);
    int sockets = atoi(argv[5]), upstream = atoi(argv[9]);
    struct sender *senders = open_sockets(atoi(argv[1]), sockets);
    first = atol(argv[6]);
    names = atol(argv[7]);
    questions = calloc((size_t)names, sizeof *questions);
    room = (uint64_t)(seconds * 1e6);
    latencies = calloc(room, sizeof *latencies);
    if (!questions || !latencies)
        die("calloc");
    for (long i = 0; i < names; i++)
        write_question(&questions[i], first + i);
    for (int i = 0; i < BATCH; i++) {
        out_vectors[i].iov_base = queries[i];
        in_vectors[i] = (struct iovec){replies[i], REPLY};
        in[i].msg_hdr.msg_iov = &in_vectors[i];
        in[i].msg_hdr.msg_iovlen = 1;
    }
    segment.msg_iov = out_vectors;
    segment.msg_control = &control;
    segment.msg_controllen = sizeof control;
    control.header.cmsg_level = IPPROTO_UDP;
    control.header.cmsg_type = UDP_SEGMENT;
    control.header.cmsg_len = CMSG_LEN(sizeof(uint16_t));
    *(uint16_t *)CMSG_DATA(&control.header) = (uint16_t)questions[0].size;

    uint64_t start = now(), end = start + (uint64_t)(seconds * 1e9);
    uint64_t at = start, heard = start, idle = 0, waited = 0;
    while (at < end || (under_way && at - heard < patience)) {
        int came = 0;
        if (upstream >= 0)
            be_upstream(upstream);
        for (int i = 0; i < sockets; i++) {
            came += listen_to(&senders[i]);
            uint64_t due = under_way < window ? window - under_way : 0;
            if (rate > 0) {
                uint64_t until = (uint64_t)((double)(at - start) * rate / 1e9);
                due = until > sent ? until - sent : 0;
            }
            if (at < end && due)
                ask(&senders[i], due > BATCH ? BATCH : (unsigned)due);
        }
        uint64_t later = now();
        if (came) {
            heard = later;
            idle = waited;
        } else {
            waited += later - at;
            if (later < end && later - heard > patience && under_way && rate == 0) {
                give_up(senders, sockets);
                heard = later;
            }
        }
        at = later;
    }
    lost += under_way;
    double took = heard > start ? (double)(heard - start) : (double)(at - start);
    qsort(latencies, kept, sizeof *latencies, by_size);
    printf("{\"sent\": %lu, \"answered\": %lu, \"failed\": %lu, \"wrong\": %lu, \"lost\": %lu, "
           "\"seconds\": %.6f, \"idle\": %.4f, \"p50\": %.1f, \"p99\": %.1f}\n",
           sent, answered, failed, wrong, lost, took / 1e9, (double)idle / took, share(0.5),
           share(0.99));
    return 0;
}
