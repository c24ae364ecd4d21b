import { readFileSync, readlinkSync } from 'node:fs';
import { F_GET_SEALS, type Native } from '../linux/index.ts';

/**
 * Who answers when the file of `fd` is asked: `kernel`, whose file systems do that in their time; `other`, such as a
 * program that the client runs (FUSE), for whom a thread may wait for ever; `none`, what is no file of a file system.
 * The file itself is not asked for that.
 */
export function fileOrigin(native: Native, fd: number): 'kernel' | 'other' | 'none' {
  // Memory, as memfd, tmpfs and hugetlbfs have it.
  if (native.fcntl(fd, F_GET_SEALS, 0) !== -1) return 'kernel';
  try {
    // Such as socket:[1] and anon_inode:[eventfd].
    if (/^\w+:/.test(readlinkSync(`/proc/self/fd/${fd}`))) return 'none';
    const [, mount = ''] = /^mnt_id:\s*(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1')) ?? [];
    const mounts = readFileSync('/proc/self/mountinfo', 'latin1').split('\n');
    const [, type] = / - (\S+)/.exec(mounts.find((one) => one.startsWith(`${mount} `)) ?? '') ?? [];
    // A mount that we do not see is in another namespace, where clients mount what they like.
    return type === undefined || type.startsWith('fuse') ? 'other' : 'kernel';
  } catch {
    return 'other';
  }
}
