/** What modes, owners and times do. */
import type { Conformance } from './support.ts'

export function attributesConform({ conforms }: Conformance): void {
  conforms(
    'times are kept to the nanosecond',
    `
write('f', b'x')
os.mkdir('d')
for path in ('f', 'd'):
    for at, mt in ((1_700_000_000_123_456_789, 1_600_000_000_987_654_321), (0, 1), (4_102_444_800_000_000_001, 7)):
        os.utime(path, ns=(at, mt))
        same((os.stat(path).st_atime_ns, os.stat(path).st_mtime_ns), (at, mt))
`,
    'times to the nanosecond',
  )
  conforms(
    'times before 1970 are kept',
    `
write('f', b'x')
os.utime('f', ns=(-1, -1_500_000_000))
same((os.stat('f').st_atime_ns, os.stat('f').st_mtime_ns), (-1, -1_500_000_000))
`,
    'times to the nanosecond',
  )
  conforms(
    'the times of access and modification are set each for itself',
    `
write('f', b'x')
os.utime('f', (1000, 2000))
same((os.stat('f').st_atime, os.stat('f').st_mtime), (1000, 2000))
`,
    'a modification time of its own',
  )
  conforms(
    'what is done to a file changes the times that it should',
    `
def after(call):
    before = os.stat('f')
    time.sleep(0.02)
    call()
    now = os.stat('f')
    return (now.st_mtime_ns > before.st_mtime_ns, now.st_ctime_ns > before.st_ctime_ns)
def writes():
    fd = os.open('f', os.O_WRONLY)
    os.write(fd, b'more')
    os.close(fd)
write('f', b'x')
same(after(writes), (True, True))
same(after(lambda: os.truncate('f', 1)), (True, True))
same(after(lambda: os.chmod('f', 0o644)), (False, True))
same(after(lambda: os.chown('f', 1, 1)), (False, True))
same(after(lambda: read('f')), (False, False))
`,
  )
  conforms(
    'a name more or less is a change of the file',
    `
write('f', b'x')
def after(call):
    before = os.stat('f').st_ctime_ns
    time.sleep(0.02)
    call()
    return os.stat('f').st_ctime_ns > before
assert after(lambda: os.link('f', 'g'))
assert after(lambda: os.unlink('g'))
`,
    'two names of one file',
  )
  conforms(
    'times out of all reason are taken for the nearest that can be kept',
    `
fd = os.open('f', os.O_RDWR | os.O_CREAT)
os.utime('f', (-62_000_000_000, 253_000_000_000))
os.write(fd, b'x')
os.fsync(fd)
assert os.stat('f').st_size == 1
`,
  )
  conforms(
    'a change of a directory changes its times',
    `
os.mkdir('d')
def after(call):
    before = os.stat('d').st_mtime_ns
    time.sleep(0.02)
    call()
    return os.stat('d').st_mtime_ns > before
assert after(lambda: write('d/f', b''))
assert not after(lambda: write('d/f', b'x'))
assert after(lambda: os.rename('d/f', 'd/g'))
assert after(lambda: os.mkdir('d/e'))
assert after(lambda: os.rmdir('d/e'))
assert after(lambda: os.unlink('d/g'))
`,
  )
  conforms(
    'times survive the kernel’s forgetting of a file',
    `
fd = os.open('f', os.O_RDWR | os.O_CREAT)
os.write(fd, b'x' * 100000)
os.close(fd)
before = os.stat('f')
time.sleep(0.02)
open('/proc/sys/vm/drop_caches', 'w').write('2')
same(os.stat('f').st_mtime_ns, before.st_mtime_ns)
same(os.stat('f').st_size, 100000)
`,
  )
  conforms(
    'modes are kept, with the umask applied',
    `
os.umask(0o027)
os.close(os.open('f', os.O_CREAT | os.O_WRONLY, 0o666))
os.mkdir('d', 0o777)
os.mkfifo('p', 0o666)
same([stat.S_IMODE(os.stat(path).st_mode) for path in 'fdp'], [0o640, 0o750, 0o640])
for mode in (0o000, 0o777, 0o1777, 0o4755, 0o6755):
    os.chmod('f', mode)
    same(stat.S_IMODE(os.stat('f').st_mode), mode)
`,
  )
  conforms(
    'owner and group are kept, one alone too',
    `
write('f', b'x')
os.chown('f', 1, 2)
same((os.stat('f').st_uid, os.stat('f').st_gid), (1, 2))
os.chown('f', -1, 3)
same((os.stat('f').st_uid, os.stat('f').st_gid), (1, 3))
os.chown('f', 4_000_000_000, -1)
same((os.stat('f').st_uid, os.stat('f').st_gid), (4_000_000_000, 3))
`,
  )
  conforms(
    'a new file belongs to who made it, and to the directory’s group where that is handed on',
    `
os.chmod('.', 0o777); os.chmod('..', 0o711); os.chmod('../..', 0o711)
os.mkdir('d')
os.chown('d', -1, 777)
os.chmod('d', 0o2777)
def work():
    write('f', b'x')
    write('d/f', b'x')
    os.mkdir('d/e')
as_user(1001, 1002, work)
same((os.stat('f').st_uid, os.stat('f').st_gid), (1001, 1002))
same((os.stat('d/f').st_uid, os.stat('d/f').st_gid), (1001, 777))
same(os.stat('d/e').st_gid, 777)
assert os.stat('d/e').st_mode & stat.S_ISGID
`,
    'the caller',
  )
  conforms(
    'permissions hold for other users',
    `
os.chmod('.', 0o755); os.chmod('..', 0o711); os.chmod('../..', 0o711)
write('secret', b'x')
os.mkdir('closed', 0o700)
write('closed/f', b'x')
write('open', b'x')
os.chmod('open', 0o604)
os.chown('open', OWNER, GROUP)
def work():
    fails('EACCES', os.open, 'secret', os.O_RDONLY)
    fails('EACCES', os.stat, 'closed/f')
    fails('EACCES', os.listdir, 'closed')
    fails('EACCES', os.open, 'new', os.O_CREAT | os.O_WRONLY)
    fails('EACCES', os.unlink, 'open')
    fails('EACCES', os.rename, 'open', 'x')
    fails('EPERM', os.chmod, 'open', 0o777)
    fails('EPERM', os.chown, 'open', 1001, -1)
    fails('EACCES', os.open, 'open', os.O_WRONLY)
    same(read('open'), b'x')
    assert not os.access('secret', os.R_OK)
as_user(1001, 1001, work)
def owner():
    write('open', b'mine')
    os.chmod('open', 0o600)
    fails('EPERM', os.chown, 'open', 1001, -1)
as_user(OWNER, GROUP, owner)
`,
  )
  conforms(
    'in a directory with the sticky bit others’ files cannot be removed',
    `
os.chmod('.', 0o1777); os.chmod('..', 0o711); os.chmod('../..', 0o711)
write('f', b'x')
def work():
    fails('EPERM', os.unlink, 'f')
    fails('EPERM', os.rename, 'f', 'g')
as_user(1001, 1001, work)
`,
  )
  conforms(
    'a write by another than root takes the set-user-ID bit away, and so does a change of owner',
    `
os.chmod('.', 0o755); os.chmod('..', 0o711); os.chmod('../..', 0o711)
write('f', b'x')
os.chown('f', OWNER, GROUP)
os.chmod('f', 0o6777)
as_user(1001, 1001, lambda: write('f', b'y', 0))
same(stat.S_IMODE(os.stat('f').st_mode), 0o777)
os.chmod('f', 0o6777)
as_user(1001, 1001, lambda: os.truncate('f', 0))
same(stat.S_IMODE(os.stat('f').st_mode), 0o777)
os.chmod('f', 0o6777)
os.chown('f', 1, 1)
same(stat.S_IMODE(os.stat('f').st_mode), 0o777)
os.mkfifo('pipe')
os.chmod('pipe', 0o6777)
os.chown('pipe', 1, 1)
same(stat.S_IMODE(os.stat('pipe').st_mode), 0o777)
os.mkdir('d')
os.chmod('d', 0o6777)
os.chown('d', 1, 1)
same(stat.S_IMODE(os.stat('d').st_mode), 0o6777)
`,
  )
}
