/** What names and directories do. */
import type { Conformance } from './support.ts'

export function namesConform({ conforms }: Conformance): void {
  conforms(
    'two names of a file have its attributes and its link count',
    `
write('a', b'one')
os.link('a', 'b')
same(os.stat('a').st_nlink, 2)
same(os.stat('a').st_ino, os.stat('b').st_ino)
os.unlink('a')
same(os.stat('b').st_nlink, 1)
same(read('b'), b'one')
`,
    'two names of one file',
  )
  conforms(
    'a file gets a second name where there is none, a directory never',
    `
write('a', b'one')
os.mkdir('d')
os.link('a', 'd/b')
fails('EPERM', os.link, 'd', 'e')
fails('EEXIST', os.link, 'a', 'd')
fails('ENOENT', os.link, 'nothing', 'x')
os.unlink('a')
same(read('d/b'), b'one')
`,
  )
  conforms(
    'what is written through one name shows through the other',
    `
write('a', b'one')
os.link('a', 'b')
same(read('b'), b'one')
a, b = os.open('a', os.O_RDWR), os.open('b', os.O_RDWR)
os.pwrite(a, b'two', 0)
same(os.pread(b, 3, 0), b'two')
os.pwrite(b, b'three', 0)
same(os.pread(a, 5, 0), b'three')
same(os.fstat(a).st_size, 5)
`,
    'two names of one file',
  )
  conforms(
    'rename follows the rules',
    `
write('f', b'f')
os.mkdir('d')
os.mkdir('full')
write('full/x', b'')
fails('EISDIR', os.rename, 'f', 'd')
fails('ENOTDIR', os.rename, 'd', 'f')
fails('ENOTEMPTY', os.rename, 'd', 'full')
fails('EINVAL', os.rename, 'full', 'full/inside')
fails('ENOENT', os.rename, 'nothing', 'x')
os.rename('full', 'd')
same(os.listdir('d'), ['x'])
os.rename('d/x', 'x')
same(sorted(os.listdir('.')), ['d', 'f', 'x'])
same(os.stat('.').st_nlink, 3)
os.link('f', 'g')
os.rename('f', 'g')
same(sorted(os.listdir('.')), ['d', 'f', 'g', 'x'])
fails('ENOTEMPTY', os.rmdir, '..')
os.rmdir('d')
fails('ENOTDIR', os.rmdir, 'f')
fails('EISDIR', os.unlink, '.')
`,
  )
  conforms(
    'a renamed directory takes along what is open in it',
    `
os.makedirs('a/b')
fd = os.open('a/b/f', os.O_RDWR | os.O_CREAT)
os.rename('a', 'c')
os.write(fd, b'x')
same(read('c/b/f'), b'x')
fails('ENOENT', os.stat, 'a/b/f')
`,
  )
  conforms(
    'rename can refuse to replace (RENAME_NOREPLACE), and exchange (RENAME_EXCHANGE)',
    `
write('a', b'a')
write('b', b'b')
os.mkdir('d')
fails('EEXIST', renameat2, 'a', 'b', 1)
renameat2('a', 'c', 1)
renameat2('c', 'b', 2)
same((read('c'), read('b')), (b'b', b'a'))
renameat2('d', 'b', 2)
same((os.path.isdir('b'), read('d')), (True, b'a'))
fails('ENOENT', renameat2, 'd', 'nothing', 2)
fails('EINVAL', renameat2, 'd', 'x', 4)
`,
    'rename flags',
  )
  conforms(
    'names are up to 255 bytes long',
    `
for name in ('n' * 255, 'ü' * 127, '日' * 85, '🐘' * 63):
    write(name, b'x')
    assert name in os.listdir('.')
    os.unlink(name)
fails('ENAMETOOLONG', write, 'n' * 256, b'')
fails('ENAMETOOLONG', os.mkdir, 'ü' * 128)
fails('ENAMETOOLONG', os.stat, 'n' * 256)
`,
  )
  conforms(
    'names are any characters',
    `
names = ['sp ace', 'new\\nline', 'back\\\\slash', '"', '%2f', '\\x01\\x7f', '-rf', '*', '日本', 'é', 'e\\u0301', '🐘', '\\ufffd', '.x', '...']
for name in names:
    write(name, name.encode())
same(sorted(os.listdir('.')), sorted(names))
for name in names:
    same(read(name), name.encode())
    os.rename(name, name + '!')
    os.unlink(name + '!')
`,
  )
  conforms(
    'names are any bytes',
    `
names = [b'\\xff', b'a\\x80b', b'\\xc3', b'\\xc3\\x28', b'\\xed\\xa0\\x80', b'\\xf4\\x8f\\xbe\\x80', b'\\xf4\\x8f\\xbf\\xbf', b'\\xfe\\xff\\xc3\\xa4']
for name in names:
    write(name, name)
same(sorted(os.listdir(b'.')), sorted(names))
for name in names:
    same(read(name), name)
os.symlink(b'to\\xff', 'link')
same(os.readlink(b'link'), b'to\\xff')
`,
    'names that are not UTF-8',
  )
  conforms(
    'a symbolic link leads where it says, and is itself a name',
    `
write('f', b'x')
os.symlink('f', 'l')
same(os.readlink('l'), 'f')
same(read('l'), b'x')
same(os.lstat('l').st_size, 1)
assert stat.S_ISLNK(os.lstat('l').st_mode)
os.symlink('l2', 'l2')
fails('ELOOP', os.stat, 'l2')
fails('ELOOP', os.open, 'l', os.O_RDONLY | os.O_NOFOLLOW)
long = 'x/' * 2000
os.symlink(long, 'long')
same(os.readlink('long'), long)
fails('EINVAL', os.readlink, 'f')
os.unlink('l')
same(read('f'), b'x')
`,
  )
  conforms(
    'named pipes and sockets work',
    `
os.mkfifo('pipe')
assert stat.S_ISFIFO(os.stat('pipe').st_mode)
reader = os.open('pipe', os.O_RDONLY | os.O_NONBLOCK)
writer = os.open('pipe', os.O_WRONLY)
os.write(writer, b'through')
same(os.read(reader, 10), b'through')
server = socket.socket(socket.AF_UNIX)
server.bind('socket')
server.listen()
assert stat.S_ISSOCK(os.stat('socket').st_mode)
client = socket.socket(socket.AF_UNIX)
client.connect('socket')
server.accept()
`,
  )
  conforms(
    'a device node has its number',
    `
os.mknod('zero', 0o600 | stat.S_IFCHR, os.makedev(1, 5))
same(os.stat('zero').st_rdev, os.makedev(1, 5))
fails('EACCES', os.open, 'zero', os.O_RDONLY)
`,
    'device numbers',
  )
  conforms(
    'a directory of 3,000 entries is listed whole, and nothing is missed while it is emptied',
    `
for index in range(3000):
    os.close(os.open(f'f{index}', os.O_CREAT | os.O_WRONLY))
same(sorted(os.listdir('.')), sorted(f'f{index}' for index in range(3000)))
removed = 0
for entry in os.scandir('.'):
    os.unlink(entry.name)
    removed += 1
same(removed, 3000)
same(os.listdir('.'), [])
`,
  )
  conforms(
    'a listing that is read again from the start shows what is new',
    `
fd = os.open('.', os.O_RDONLY)
same(os.listdir(fd), [])
write('f', b'')
same(os.listdir(fd), ['f'])
os.unlink('f')
same(os.listdir(fd), [])
libc.fdopendir.restype = ctypes.c_void_p
libc.readdir.restype = ctypes.c_void_p
os.mkdir('d')
stream = ctypes.c_void_p(libc.fdopendir(os.open('d', os.O_RDONLY)))
def names():
    found = []
    while (entry := libc.readdir(stream)):
        found.append(ctypes.string_at(entry + 19))
    return sorted(found)
same(names(), [b'.', b'..'])
write('d/x', b'')
libc.rewinddir(stream)
same(names(), [b'.', b'..', b'x'])
`,
  )
  conforms(
    'a directory knows its parent and itself in a listing',
    `
os.mkdir('d')
libc.opendir.restype = ctypes.c_void_p
libc.readdir.restype = ctypes.c_void_p
stream = ctypes.c_void_p(libc.opendir(b'd'))
found = {}
while (entry := libc.readdir(stream)):
    found[ctypes.string_at(entry + 19)] = struct.unpack('Q', ctypes.string_at(entry, 8))[0]
same(sorted(found), [b'.', b'..'])
same(os.stat('d/..').st_ino, os.stat('.').st_ino)
same(os.stat('d').st_nlink, 2)
`,
  )
  conforms(
    'a removed directory that is a working directory is empty and refuses new entries',
    `
os.mkdir('d')
os.chdir('d')
os.rmdir('../d')
fails('ENOENT', os.open, 'f', os.O_CREAT | os.O_WRONLY)
same(os.listdir('.'), [])
`,
    'removed directories',
  )
}
