// A vfio-user client that measures: config-space reads against a server, and the bare limit beside it.
//
//   client SOCKET ROUNDS DEPTH             REGION_READs of 4 bytes; DEPTH of them are sent before the replies are read
//   client --spawn ROUNDS DEPTH COMMAND..  the same with a server that is started with a socket as descriptor 3
//   client --pingpong ROUNDS DEPTH         the same message sizes between two processes, with no protocol
//
// Every reply is checked. Prints one JSON object: nanoseconds per request (median, p99, mean), and the number.
// Run it under `taskset` to choose the core.
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { HEADER = 16, REQUEST = 32, REPLY = 36, MAX_DEPTH = 64 };
enum { VERSION = 1, REGION_READ = 9, CONFIG_REGION = 7 };

struct request {
  uint16_t id, command;
  uint32_t size, flags, error;
  uint64_t offset;
  uint32_t region, count;
};
struct reply {
  uint16_t id, command;
  uint32_t size, flags, error;
  uint64_t offset;
  uint32_t region, count, value;
} __attribute__((packed));

static void die(const char *what) {
  perror(what);
  exit(1);
}

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void receive(int fd, void *buffer, size_t length) {
  for (size_t done = 0; done < length;) {
    ssize_t n = recv(fd, (char *)buffer + done, length - done, 0);
    if (n <= 0) die("recv");
    done += (size_t)n;
  }
}

static void transmit(int fd, const void *buffer, size_t length) {
  if (send(fd, buffer, length, MSG_NOSIGNAL) != (ssize_t)length) die("send");
}

static int by_value(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return (x > y) - (x < y);
}

static void report(uint32_t *times, size_t samples, unsigned depth, uint64_t total) {
  qsort(times, samples, sizeof *times, by_value);
  printf("{\"median\":%.1f,\"p99\":%.1f,\"mean\":%.1f,\"requests\":%zu}\n", (double)times[samples / 2] / depth,
         (double)times[samples * 99 / 100] / depth, (double)total / ((double)samples * depth), samples * depth);
}

static int start(char **command) {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0) die("socketpair");
  pid_t child = fork();
  if (child < 0) die("fork");
  if (child == 0) {
    if (dup2(pair[1], 3) < 0 || dup2(2, 1) < 0) die("dup2");
    if (pair[0] != 3) close(pair[0]);
    execvp(command[0], command);
    die(command[0]);
  }
  close(pair[1]);
  return pair[0];
}

static int join(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof address.sun_path) die("socket path");
  strcpy(address.sun_path, path);
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0) die("connect");
  return fd;
}

static void negotiate(int fd) {
  const char data[] = "{\"capabilities\":{\"max_msg_fds\":8,\"max_data_xfer_size\":1048576}}";
  unsigned char message[HEADER + 4 + sizeof data] = {1, 0, VERSION, 0, sizeof message};
  memcpy(message + HEADER + 4, data, sizeof data);
  transmit(fd, message, sizeof message);
  struct reply head;
  receive(fd, &head, HEADER);
  if (head.command != VERSION || head.flags != 1 || head.size < HEADER || head.size > 4096) die("version");
  char rest[4096];
  receive(fd, rest, head.size - HEADER);
}

// Sends `depth` reads and takes the replies; the offsets go round through the first 256 bytes.
static void turn(int fd, uint32_t sequence, unsigned depth, uint32_t identity) {
  struct request requests[MAX_DEPTH] = {{0}};
  struct reply replies[MAX_DEPTH];
  for (unsigned i = 0; i < depth; i++) {
    requests[i] = (struct request){.id = (uint16_t)(sequence + i),
                                   .command = REGION_READ,
                                   .size = REQUEST,
                                   .offset = (sequence + i) * 4 & 0xfc,
                                   .region = CONFIG_REGION,
                                   .count = 4};
    transmit(fd, &requests[i], REQUEST);
  }
  receive(fd, replies, sizeof replies[0] * depth);
  for (unsigned i = 0; i < depth; i++) {
    const struct reply *r = &replies[i];
    if (r->id != requests[i].id || r->command != REGION_READ || r->size != REPLY || r->flags != 1 ||
        r->offset != requests[i].offset || r->region != CONFIG_REGION || r->count != 4 ||
        (r->offset == 0 && identity != 0 && r->value != identity)) {
      fprintf(stderr, "a reply is wrong\n");
      exit(1);
    }
  }
}

static void measure(int fd, uint32_t rounds, unsigned depth) {
  struct request first = {.command = REGION_READ, .size = REQUEST, .region = CONFIG_REGION, .count = 4};
  struct reply answer;
  transmit(fd, &first, REQUEST);
  receive(fd, &answer, sizeof answer);
  uint32_t sequence = 0, warm = rounds / 10, *times = malloc(rounds * sizeof *times);
  if (times == NULL) die("malloc");
  for (uint32_t i = 0; i < warm; i++, sequence += depth) turn(fd, sequence, depth, answer.value);
  uint64_t start = now(), last = start;
  for (uint32_t i = 0; i < rounds; i++, sequence += depth) {
    turn(fd, sequence, depth, answer.value);
    uint64_t end = now();
    times[i] = (uint32_t)(end - last);
    last = end;
  }
  report(times, rounds, depth, last - start);
}

static void pingpong(uint32_t rounds) {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0) die("socketpair");
  pid_t child = fork();
  if (child < 0) die("fork");
  char there[REQUEST] = {0}, back[REPLY] = {0};
  if (child == 0) {
    close(pair[0]);
    while (recv(pair[1], there, sizeof there, 0) == sizeof there) transmit(pair[1], back, sizeof back);
    _exit(0);
  }
  close(pair[1]);
  uint32_t *times = malloc(rounds * sizeof *times);
  if (times == NULL) die("malloc");
  for (uint32_t i = 0; i < rounds / 10; i++) {
    transmit(pair[0], there, sizeof there);
    receive(pair[0], back, sizeof back);
  }
  uint64_t start = now(), last = start;
  for (uint32_t i = 0; i < rounds; i++) {
    transmit(pair[0], there, sizeof there);
    receive(pair[0], back, sizeof back);
    uint64_t end = now();
    times[i] = (uint32_t)(end - last);
    last = end;
  }
  report(times, rounds, 1, last - start);
  close(pair[0]);
  waitpid(child, NULL, 0);
}

int main(int argc, char **argv) {
  if (argc < 4) {
    fprintf(stderr, "usage: %s (SOCKET | --spawn | --pingpong) ROUNDS DEPTH [COMMAND...]\n", argv[0]);
    return 2;
  }
  uint32_t rounds = (uint32_t)strtoul(argv[2], NULL, 0);
  unsigned depth = (unsigned)strtoul(argv[3], NULL, 0);
  if (rounds < 10 || depth < 1 || depth > MAX_DEPTH) return 2;
  if (strcmp(argv[1], "--pingpong") == 0) {
    pingpong(rounds);
    return 0;
  }
  int fd = strcmp(argv[1], "--spawn") == 0 ? start(argv + 4) : join(argv[1]);
  negotiate(fd);
  measure(fd, rounds, depth);
  return 0;
}
