/** What sizes, holes and room do. */
import type { Conformance } from './support.ts'

export function spaceConforms({ conforms }: Conformance): void {
  conforms(
    'what is skipped reads as zeros and takes no room',
    `
fd = os.open('f', os.O_RDWR | os.O_CREAT)
os.pwrite(fd, b'end', 1_000_000_000)
os.fsync(fd)
same(os.fstat(fd).st_size, 1_000_000_003)
same(os.pread(fd, 4096, 500_000_000), bytes(4096))
os.close(fd)
assert os.stat('f').st_blocks * 512 < 1_000_000, os.stat('f').st_blocks
`,
  )
  conforms(
    'a file can be larger than 4 GiB',
    `
fd = os.open('f', os.O_RDWR | os.O_CREAT)
for at in (2**31 - 1, 2**32 - 1, 2**33 + 5):
    os.pwrite(fd, b'abc', at)
os.fsync(fd)
for at in (2**31 - 1, 2**32 - 1, 2**33 + 5):
    same(os.pread(fd, 3, at), b'abc')
same(os.fstat(fd).st_size, 2**33 + 8)
os.ftruncate(fd, 2**32 + 1)
same(os.pread(fd, 10, 2**32 - 1), b'ab')
`,
  )
  conforms(
    'what is cut off and grown again reads as zeros',
    `
fd = os.open('f', os.O_RDWR | os.O_CREAT)
os.write(fd, b'x' * 30000)
os.ftruncate(fd, 10001)
os.ftruncate(fd, 30000)
same(os.pread(fd, 30000, 0), b'x' * 10001 + bytes(19999))
os.fsync(fd)
open('/proc/sys/vm/drop_caches', 'w').write('1')
same(os.pread(fd, 30000, 0), b'x' * 10001 + bytes(19999))
`,
  )
  conforms(
    'SEEK_HOLE and SEEK_DATA distinguish holes from data',
    `
fd = os.open('f', os.O_RDWR | os.O_CREAT)
os.pwrite(fd, b'x' * 65536, 0)
os.pwrite(fd, b'x' * 65536, 1048576)
os.ftruncate(fd, 2097152)
same(os.lseek(fd, 0, os.SEEK_DATA), 0)
same(os.lseek(fd, 0, os.SEEK_HOLE), 65536)
same(os.lseek(fd, 65536, os.SEEK_DATA), 1048576)
same(os.lseek(fd, 1048576, os.SEEK_HOLE), 1114112)
fails('ENXIO', os.lseek, fd, 1200000, os.SEEK_DATA)
fails('ENXIO', os.lseek, fd, 2097152, os.SEEK_HOLE)
`,
    'holes and data',
  )
  conforms(
    'what was just written is no hole',
    `
for index in range(20):
    fd = os.open(f'f{index}', os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, b'x' * 8192, 0)
    os.pwrite(fd, b'y' * 400000, 8192)
    same(os.lseek(fd, 0, os.SEEK_HOLE), 408192)
    same(os.lseek(fd, 100000, os.SEEK_DATA), 100000)
    os.pwrite(fd, b'z', 1_000_000)
    assert os.lseek(fd, 500_000, os.SEEK_DATA) <= 1_000_000
`,
  )
  conforms(
    'fallocate makes room and holes',
    `
KEEP, PUNCH = 1, 2
fd = os.open('f', os.O_RDWR | os.O_CREAT)
fallocate(fd, 0, 0, 100000)
same(os.fstat(fd).st_size, 100000)
same(os.pread(fd, 100000, 0), bytes(100000))
fallocate(fd, KEEP, 0, 200000)
same(os.fstat(fd).st_size, 100000)
os.pwrite(fd, b'x' * 100000, 0)
fallocate(fd, PUNCH | KEEP, 10001, 50000)
same(os.pread(fd, 100000, 0), b'x' * 10001 + bytes(50000) + b'x' * 39999)
os.fsync(fd)
open('/proc/sys/vm/drop_caches', 'w').write('1')
same(os.pread(fd, 110000, 0), b'x' * 10001 + bytes(50000) + b'x' * 39999)
fails('EOPNOTSUPP', fallocate, fd, 8, 0, 8192)
`,
    'fallocate',
  )
  conforms(
    'fallocate makes zeros',
    `
ZERO = 16
fd = os.open('f', os.O_RDWR | os.O_CREAT)
os.pwrite(fd, b'x' * 100000, 0)
fallocate(fd, ZERO, 90000, 20000)
same(os.fstat(fd).st_size, 110000)
same(os.pread(fd, 110000, 60001), b'x' * 29999 + bytes(20000))
os.fsync(fd)
open('/proc/sys/vm/drop_caches', 'w').write('1')
same(os.pread(fd, 110000, 0), b'x' * 90000 + bytes(20000))
`,
    'fallocate',
    'zeroed ranges',
  )
  conforms(
    'posix_fallocate makes room, by whatever means',
    `
fd = os.open('f', os.O_RDWR | os.O_CREAT)
os.posix_fallocate(fd, 0, 100000)
same(os.fstat(fd).st_size, 100000)
same(os.pread(fd, 100000, 0), bytes(100000))
`,
  )
  conforms(
    'statfs reports the file system of the write cache',
    `
here, there = os.statvfs('.'), os.statvfs(os.path.join(DATA, '../../cache'))
size = lambda found: found.f_blocks * found.f_frsize
free = lambda found: found.f_bavail * found.f_frsize
assert abs(size(here) - size(there)) < size(there) * 0.01, (size(here), size(there))
assert abs(free(here) - free(there)) < size(there) * 0.05, (free(here), free(there))
same(here.f_namemax, 255)
`,
  )
  conforms(
    'a copy of a file of the backup is that file',
    `
import shutil
shutil.copyfile(DATA + '/base/plain', 'copy')
same(read('copy'), read(DATA + '/base/plain'))
src, dst = os.open('copy', os.O_RDONLY), os.open('more', os.O_RDWR | os.O_CREAT)
size = os.fstat(src).st_size
done = 0
while done < size:
    done += os.copy_file_range(src, dst, size - done)
same(read('more'), read('copy'))
`,
  )
  conforms(
    'extended attributes and odd requests are refused as on a file system that has none',
    `
write('f', b'x')
fails('EOPNOTSUPP', os.setxattr, 'f', 'user.x', b'1')
fails('EOPNOTSUPP', os.getxattr, 'f', 'user.x')
fd = os.open('f', os.O_RDWR)
fails('ENOTTY', fcntl.ioctl, fd, 0x5401, b'')
fails('EOPNOTSUPP', os.open, '.', os.O_TMPFILE | os.O_RDWR)
fails('EINVAL', os.lseek, fd, -1, os.SEEK_SET)
`,
  )
}
