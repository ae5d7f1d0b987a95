/** What open files do. */
import type { Conformance } from './support.ts'

export function filesConform({ conforms }: Conformance): void {
  conforms(
    'a file that is removed while open can be read and written until it is closed',
    `
fd = os.open('f', os.O_RDWR | os.O_CREAT)
os.write(fd, b'a' * 10000)
os.unlink('f')
fails('ENOENT', os.stat, 'f')
os.pwrite(fd, b'b' * 10000, 10000)
os.ftruncate(fd, 15000)
os.fsync(fd)
same(os.pread(fd, 20000, 0), b'a' * 10000 + b'b' * 5000)
same(os.listdir('.'), [])
os.close(fd)
`,
  )
  conforms(
    'a removed file that is open has no links',
    `
fd = os.open('f', os.O_RDWR | os.O_CREAT)
os.unlink('f')
same(os.fstat(fd).st_nlink, 0)
`,
  )
  conforms(
    'a file that is replaced while open keeps its bytes for those who have it open',
    `
write('old', b'old')
write('new', b'new')
fd = os.open('old', os.O_RDONLY)
os.rename('new', 'old')
same(read('old'), b'new')
same(os.read(fd, 10), b'old')
`,
  )
  conforms(
    'O_APPEND writes to the end, also after writes of other descriptors',
    `
a = os.open('f', os.O_WRONLY | os.O_CREAT | os.O_APPEND)
b = os.open('f', os.O_WRONLY | os.O_APPEND)
for index in range(100):
    os.write(a if index % 2 else b, b'%02d' % index)
same(read('f'), b''.join(b'%02d' % index for index in range(100)))
`,
  )
  conforms(
    'O_TRUNC empties a file, and what follows is not what was there',
    `
write('f', b'x' * 100000)
fd = os.open('f', os.O_RDWR | os.O_TRUNC)
same(os.fstat(fd).st_size, 0)
os.pwrite(fd, b'y', 50000)
same(read('f'), bytes(50000) + b'y')
`,
  )
  conforms(
    'O_EXCL makes a file once',
    `
flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
os.close(os.open('f', flags))
fails('EEXIST', os.open, 'f', flags)
os.symlink('nowhere', 'l')
fails('EEXIST', os.open, 'l', flags)
os.unlink('f')
os.close(os.open('f', flags))
`,
  )
  conforms(
    'a file made read-only can be written by who made it, through that descriptor',
    `
def work():
    fd = os.open('f', os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o400)
    os.write(fd, b'x')
    fails('EACCES', os.open, 'f', os.O_WRONLY)
os.chmod('.', 0o777); os.chmod('..', 0o711); os.chmod('../..', 0o711)
as_user(OWNER, GROUP, work)
same(read('f'), b'x')
`,
  )
  conforms(
    'a shared mapping shows what is written, and writes what is stored into it',
    `
fd = os.open('f', os.O_RDWR | os.O_CREAT)
os.write(fd, b'a' * 20000)
first = mmap.mmap(fd, 20000)
other = mmap.mmap(os.open('f', os.O_RDWR), 20000)
first[5000:5003] = b'xyz'
same(other[5000:5003], b'xyz')
same(os.pread(fd, 3, 5000), b'xyz')
os.pwrite(fd, b'123', 9000)
same(first[9000:9003], b'123')
first.flush()
first.close()
other.close()
same(read('f')[4999:5004], b'axyza')
`,
  )
  conforms(
    'a shared mapping of a file of the backup changes the file',
    `
fd = os.open(DATA + '/base/mapped', os.O_RDWR)
size = os.fstat(fd).st_size
map = mmap.mmap(fd, size)
before = bytes(map)
map[12345:12350] = b'HELLO'
map.flush()
map.close()
same(read(DATA + '/base/mapped'), before[:12345] + b'HELLO' + before[12350:])
`,
  )
  conforms(
    'writes at odd offsets and sizes, forwards and backwards, read back',
    `
import random
random.seed(7)
model = bytearray()
fd = os.open('f', os.O_RDWR | os.O_CREAT)
for _ in range(300):
    at, size = random.randrange(200000), random.randrange(1, 20000)
    data = random.randbytes(size)
    os.pwrite(fd, data, at)
    model.extend(bytes(max(0, at + size - len(model))))
    model[at:at + size] = data
    if random.random() < 0.1:
        size = random.randrange(len(model))
        os.ftruncate(fd, size)
        del model[size:]
    if random.random() < 0.2:
        at = random.randrange(len(model) + 1)
        same(os.pread(fd, 5000, at), bytes(model[at:at + 5000]))
os.fsync(fd)
same(read('f'), bytes(model))
`,
  )
  conforms(
    'direct reads and writes agree with buffered ones',
    `
fd = os.open('f', os.O_RDWR | os.O_CREAT)
direct = os.open('f', os.O_RDWR | os.O_DIRECT)
block = mmap.mmap(-1, 8192)
os.write(fd, b'a' * 32768)
os.preadv(direct, [block], 8192)
same(bytes(block), b'a' * 8192)
block[:] = b'b' * 8192
os.pwritev(direct, [block], 16384)
same(os.pread(fd, 32768, 0), b'a' * 16384 + b'b' * 8192 + b'a' * 8192)
os.pwritev(direct, [block], 32768)
same(os.fstat(fd).st_size, 40960)
`,
  )
  conforms(
    'writers of their own parts of one file do not disturb each other',
    `
PART, BLOCK = 64, 8192
os.close(os.open('f', os.O_RDWR | os.O_CREAT))
def work(me):
    fd = os.open('f', os.O_RDWR)
    for index in range(PART):
        os.pwrite(fd, bytes([me + 1]) * BLOCK, (index * 4 + me) * BLOCK)
    os.fsync(fd)
children = []
for me in range(4):
    child = os.fork()
    if child == 0:
        work(me)
        os._exit(0)
    children.append(child)
for child in children:
    same(os.waitpid(child, 0)[1], 0)
same(read('f'), b''.join(bytes([me + 1]) * BLOCK for _ in range(PART) for me in range(4)))
`,
  )
  conforms(
    'locks of files hold between processes',
    `
fd = os.open('f', os.O_RDWR | os.O_CREAT)
fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
def work():
    fails('EAGAIN', fcntl.lockf, os.open('f', os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB)
as_user(0, 0, work)
`,
  )
  conforms(
    'files and directories can be synced, and what is not a file cannot be read as one',
    `
fd = os.open('f', os.O_RDWR | os.O_CREAT)
os.write(fd, b'x')
os.fsync(fd)
os.fdatasync(fd)
directory = os.open('.', os.O_RDONLY)
os.fsync(directory)
fails('EISDIR', os.read, directory, 1)
fails('EISDIR', os.open, '.', os.O_RDWR)
fails('ENOTDIR', os.open, 'f/x', os.O_RDONLY)
`,
  )
}
