"""Makes the same system calls in two directories, a mount and a plain one, and compares what they give.

Speaks JSON lines. `begin` names the two directories, which hold the same; `run` has a list of operations and is
answered with the first difference, or none; `close` closes every file that is open. Operations name files by paths
below the directory and open files by slots. Times are compared as they are while they are set ones (before 2020), and
else only required to be recent.
"""
import ctypes
import errno
import fcntl
import hashlib
import json
import mmap
import os
import stat
import sys

LIBC = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100
RENAME_FLAGS = {'replace': 0, 'noreplace': 1, 'exchange': 2}
# linux/falloc.h: FALLOC_FL_KEEP_SIZE 1, FALLOC_FL_PUNCH_HOLE 2, FALLOC_FL_ZERO_RANGE 16
FALLOCATE_MODES = {'allocate': 0, 'allocate-keep': 1, 'punch-hole': 3, 'zero-range': 16, 'zero-range-keep': 17}
RECENT = 1577836800 * 10**9
PAGE = mmap.PAGESIZE
PATTERN = bytes((i * 7 + 1) % 251 for i in range(251)) * 20000
# Who makes the calls.
USER, GROUP = int(sys.argv[1]), int(sys.argv[2])
MAX_SIZE = 8 * 1024 * 1024


def content(fill, length):
    return PATTERN[fill:fill + length]


def check(result):
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def moment(nanoseconds):
    return nanoseconds if nanoseconds < RECENT else 'recent'


def attributes(found):
    kind = stat.S_IFMT(found.st_mode)
    return {
        'mode': oct(found.st_mode), 'nlink': found.st_nlink, 'uid': found.st_uid, 'gid': found.st_gid,
        'size': 0 if kind == stat.S_IFDIR else found.st_size, 'mtime': moment(found.st_mtime_ns),
    }


def told(data):
    """Bytes short enough to show, exact enough to compare."""
    return {'length': len(data), 'start': data[:16].hex(), 'sha': hashlib.sha1(data).hexdigest()}


def first_difference(one, other):
    length = min(len(one), len(other))
    if one[:length] == other[:length]:
        return length
    low, high = 0, length
    while high - low > 1:
        middle = (low + high) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle
    return low


class Side:
    """One of the two directories, with its open files."""

    def __init__(self, directory, exact):
        self.directory = directory
        self.exact = exact
        self.slots = {}

    def path(self, name):
        return os.path.join(self.directory, name)

    def call(self, op):
        """The result of an operation as a value that JSON can hold; an error by its name."""
        try:
            return getattr(self, 'do_' + op['op'].replace('-', '_'))(op)
        except OSError as error:
            return errno.errorcode.get(error.errno, str(error.errno))

    def close_all(self):
        for fd in self.slots.values():
            os.close(fd)
        self.slots = {}

    def slot(self, op):
        return self.slots.get(op['slot'])

    def do_open(self, op):
        # A pipe without a partner must not wait for one.
        flags = os.O_CLOEXEC | os.O_NONBLOCK
        for name in op['flags']:
            flags |= getattr(os, 'O_' + name.upper())
        fd = os.open(self.path(op['path']), flags, op['mode'])
        if op['slot'] in self.slots:
            os.close(self.slots[op['slot']])
        self.slots[op['slot']] = fd
        return 'open'

    def do_close(self, op):
        fd = self.slots.pop(op['slot'], None)
        if fd is not None:
            os.close(fd)

    def do_pwrite(self, op):
        fd = self.slot(op)
        if fd is not None and op['at'] + op['length'] <= MAX_SIZE:
            return os.pwrite(fd, content(op['fill'], op['length']), op['at'])

    def do_append(self, op):
        """Where the file's own position is, which is the end of a file opened to append."""
        fd = self.slot(op)
        if fd is not None and max(os.lseek(fd, 0, os.SEEK_CUR), os.fstat(fd).st_size) < MAX_SIZE:
            return os.write(fd, content(op['fill'], op['length'])), os.lseek(fd, 0, os.SEEK_CUR)

    def do_pread(self, op):
        fd = self.slot(op)
        if fd is not None:
            return told(os.pread(fd, op['length'], op['at']))

    def do_ftruncate(self, op):
        fd = self.slot(op)
        if fd is not None:
            os.ftruncate(fd, op['size'])

    def do_truncate(self, op):
        path = self.path(op['path'])
        keeps_its_size = os.stat(path).st_size == op['size']
        os.truncate(path, op['size'])
        if keeps_its_size:
            # With a writeback cache the kernel marks times of a truncation by itself, and only if the size changes
            # (fs/fuse/dir.c, fuse_do_setattr); ext4 marks them always.
            os.utime(path)

    def do_fallocate(self, op):
        fd = self.slot(op)
        if fd is None or op['at'] + op['length'] > MAX_SIZE:
            return None
        offset = ctypes.c_int64
        check(LIBC.fallocate(fd, FALLOCATE_MODES[op['how']], offset(op['at']), offset(op['length'])))

    def do_copy_range(self, op):
        source, target = self.slot(op), self.slots.get(op['to'])
        if source is None or target is None or source == target or op['at'] + op['length'] > MAX_SIZE:
            return None
        return os.copy_file_range(source, target, op['length'], op['from'], op['at'])

    def do_holes(self, op):
        """Where holes are is each file system's own business; that they hold zeros is not."""
        fd = self.slot(op)
        if fd is None or not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        position, end = op['at'], os.fstat(fd).st_size
        if position >= end:
            os.lseek(fd, position, os.SEEK_DATA)
        if not self.readable(fd):
            return None
        own = os.lseek(fd, 0, os.SEEK_CUR)
        try:
            while position < end:
                try:
                    data = os.lseek(fd, position, os.SEEK_DATA)
                except OSError as error:
                    if error.errno != errno.ENXIO:
                        raise
                    data = end
                if data < position or data > end:
                    return 'data at %d, asked from %d, the end is %d' % (data, position, end)
                if os.pread(fd, data - position, position).strip(b'\0'):
                    return 'no hole between %d and %d' % (position, data)
                if data == end:
                    break
                position = os.lseek(fd, data, os.SEEK_HOLE)
                if position <= data or position > end:
                    return 'a hole at %d, asked from %d, the end is %d' % (position, data, end)
        finally:
            os.lseek(fd, own, os.SEEK_SET)

    def readable(self, fd):
        return fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_WRONLY

    def do_map(self, op):
        """Writes through a shared mapping; only inside the file, beyond it the process would die."""
        fd = self.slot(op)
        if fd is None or not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        end = min(op['at'] + op['length'], os.fstat(fd).st_size)
        if end <= op['at']:
            return None
        start = op['at'] // PAGE * PAGE
        with mmap.mmap(fd, end - start, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=start) as view:
            before = told(view[op['at'] - start:])
            view[op['at'] - start:] = content(op['fill'], end - op['at'])
            if op['flush']:
                view.flush()
        return before

    def do_fsync(self, op):
        fd = self.slot(op)
        if fd is not None:
            (os.fdatasync if op['data'] else os.fsync)(fd)

    def do_fstat(self, op):
        fd = self.slot(op)
        if fd is not None:
            return self.shown(os.fstat(fd))

    def do_stat(self, op):
        return self.shown(os.stat(self.path(op['path'])))

    def do_lstat(self, op):
        return self.shown(os.lstat(self.path(op['path'])))

    def shown(self, found):
        seen = attributes(found)
        if not self.exact:
            del seen['mtime']
        return seen

    def do_list(self, op):
        return sorted(os.listdir(self.path(op['path'])))

    def do_mkdir(self, op):
        os.mkdir(self.path(op['path']), op['mode'])

    def close_unlinked(self):
        """Of what libfuse 2 finds no path for any more when its directory goes (lib/fuse.c, try_get_path)."""
        if self.exact:
            return
        for slot, fd in list(self.slots.items()):
            if os.fstat(fd).st_nlink == 0:
                os.close(self.slots.pop(slot))

    def do_rmdir(self, op):
        self.close_unlinked()
        os.rmdir(self.path(op['path']))

    def do_unlink(self, op):
        os.unlink(self.path(op['path']))

    def do_symlink(self, op):
        os.symlink(op['target'], self.path(op['path']))

    def do_readlink(self, op):
        return os.readlink(self.path(op['path']))

    def do_link(self, op):
        os.link(self.path(op['path']), self.path(op['to']), follow_symlinks=False)

    def do_rename(self, op):
        self.close_unlinked()
        old, new = os.fsencode(self.path(op['path'])), os.fsencode(self.path(op['to']))
        check(LIBC.renameat2(AT_FDCWD, old, AT_FDCWD, new, RENAME_FLAGS[op['how']]))

    def do_fifo(self, op):
        os.mkfifo(self.path(op['path']), op['mode'])

    def do_chmod(self, op):
        os.chmod(self.path(op['path']), op['mode'])

    def do_fchmod(self, op):
        fd = self.slot(op)
        if fd is not None:
            os.fchmod(fd, op['mode'])

    def do_times(self, op):
        path = self.path(op['path'])
        if op['now']:
            os.utime(path)
            return None
        atime = op['atime'] if self.exact else op['mtime'] // 10**9 * 10**9
        mtime = op['mtime'] if self.exact else atime
        os.utime(path, ns=(atime, mtime))
        return os.stat(path).st_mtime_ns, os.stat(path).st_atime_ns

    def do_sync_all(self, _op):
        """Of every file and directory; by root where possible, who may open what its owner may not."""
        if os.getuid() == 0:
            os.seteuid(0)
        try:
            self.sync_tree()
        finally:
            if os.getuid() == 0:
                os.seteuid(USER)

    def sync_tree(self):
        for directory, _, names in os.walk(self.directory):
            for name in [*names, '.']:
                path = os.path.join(directory, name)
                found = os.lstat(path)
                if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
                    continue
                fd = os.open(path, os.O_RDONLY)
                os.fsync(fd)
                os.close(fd)

    def do_check(self, _op):
        """The whole tree: names, attributes, targets and contents."""
        found = {}

        def visit(path, name):
            try:
                seen = os.lstat(path)
                found[name] = shown = self.shown(seen)
                kind = stat.S_IFMT(seen.st_mode)
                if kind == stat.S_IFLNK:
                    shown['target'] = os.readlink(path)
                elif kind == stat.S_IFREG:
                    with open(path, 'rb') as file:
                        shown['content'] = told(file.read())
                elif kind == stat.S_IFDIR:
                    for child in sorted(os.listdir(path)):
                        visit(os.path.join(path, child), name + '/' + child)
            except OSError as error:
                found.setdefault(name, {})['error'] = errno.errorcode.get(error.errno)

        visit(self.directory, '.')
        open_files = {}
        for slot, fd in sorted(self.slots.items()):
            seen = os.fstat(fd)
            open_files[slot] = self.shown(seen)
            if stat.S_ISREG(seen.st_mode) and self.readable(fd):
                open_files[slot]['content'] = told(os.pread(fd, MAX_SIZE * 2, 0))
        return {'tree': found, 'open': open_files}


def explain(op, mounted, plain):
    """What of a large result differs, for people."""
    if op['op'] != 'check' or isinstance(mounted, str) or isinstance(plain, str):
        return mounted, plain
    ours, theirs = {}, {}
    for part in ('tree', 'open'):
        for key in [*mounted[part], *plain[part]]:
            if mounted[part].get(key) != plain[part].get(key):
                ours[key], theirs[key] = mounted[part].get(key), plain[part].get(key)
    return ours, theirs


def run(sides, operations):
    for index, op in enumerate(operations):
        mounted, plain = (side.call(op) for side in sides)
        if mounted == plain:
            continue
        ours, theirs = explain(op, mounted, plain)
        return {'index': index, 'op': op, 'mount': ours, 'plain': theirs, 'where': where(sides, op, ours)}
    return None


def where(sides, op, ours):
    """The first byte that differs, of a file that was found to differ."""
    try:
        if op['op'] == 'pread':
            ranges = [os.pread(side.slots[op['slot']], op['length'], op['at']) for side in sides]
            return op['at'] + first_difference(*ranges)
        if op['op'] == 'check':
            return {
                name: first_difference(*(open(side.path(name), 'rb').read() for side in sides))
                for name in ours if isinstance(name, str) and os.path.isfile(sides[0].path(name))
            }
    except (OSError, KeyError):
        pass
    return None


def main():
    sides = []
    os.umask(0o022)
    if os.getuid() == 0:
        os.setgroups([])
        os.setegid(GROUP)
        os.seteuid(USER)
    for line in sys.stdin:
        order = json.loads(line)
        answer = None
        if 'begin' in order:
            for side in sides:
                side.close_all()
            sides = [Side(order['begin'][name], order['exact']) for name in ('mount', 'plain')]
        elif 'run' in order:
            answer = run(sides, order['run'])
        else:
            for side in sides:
                side.close_all()
        print(json.dumps({'difference': answer}), flush=True)


main()
