/**
 * Numbers of the Linux ABI that the glue uses, as x86-64 and AArch64 have them (`asm-generic`).
 *
 * @module
 */

export const AF_UNIX = 1;
export const SOCK_STREAM = 1;
export const SOCK_CLOEXEC = 0x80000;
export const SOCK_NONBLOCK = 0x800;
export const SOL_SOCKET = 1;
export const SO_PASSCRED = 16;
export const SO_RCVTIMEO = 20;
export const SCM_RIGHTS = 1;

export const MSG_CTRUNC = 0x8;
export const MSG_DONTWAIT = 0x40;
export const MSG_NOSIGNAL = 0x4000;
export const MSG_CMSG_CLOEXEC = 0x40000000;

export const SHUT_RDWR = 2;

export const F_GETFL = 3;
export const F_SETFL = 4;
export const F_GET_SEALS = 1034;
export const F_SEAL_SHRINK = 0x2;
export const O_RDWR = 0x2;
export const O_NONBLOCK = 0x800;
export const O_CLOEXEC = 0x80000;

export const POLLIN = 0x1;
export const POLLOUT = 0x4;

export const PROT_READ = 1;
export const PROT_WRITE = 2;
export const MAP_SHARED = 1;
export const MAP_PRIVATE = 2;
export const MAP_FIXED = 0x10;
export const MAP_ANONYMOUS = 0x20;
export const MAP_NORESERVE = 0x4000;

export const EFD_CLOEXEC = 0x80000;
export const EFD_NONBLOCK = 0x800;

export const MFD_CLOEXEC = 0x1;
export const MFD_ALLOW_SEALING = 0x2;
export const F_ADD_SEALS = 1033;
