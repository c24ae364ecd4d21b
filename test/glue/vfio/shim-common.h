// What the parts of the shim share.
#pragma once
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NEVER(condition, text) \
  do { \
    if (condition) { fprintf(stderr, "shim: %s\n", text); _exit(99); } \
  } while (0)

static const char *option(const char *name) { return getenv(name); }

static unsigned long number(const char *name, unsigned long otherwise) {
  const char *text = option(name);
  return text != NULL ? strtoul(text, NULL, 0) : otherwise;
}

static int fail(int error) {
  errno = error;
  return -1;
}

// The errno that VPCI_SHIM_FAIL names for a call, or 0.
static int failing(const char *name) {
  const char *at = option("VPCI_SHIM_FAIL");
  size_t length = strlen(name);
  while (at != NULL && *at != 0) {
    if (strncmp(at, name, length) == 0 && at[length] == ':') return atoi(at + length + 1);
    at = strchr(at, ',');
    if (at != NULL) at++;
  }
  return 0;
}
