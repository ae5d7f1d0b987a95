/** Bringing a bundle to a host: cut off in the middle, with a full disk, changed on its way. */
import { readdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { expect } from 'chai'
import { type Bundle, openBundle } from '../../coordinator/fleet/install/bundle.ts'
import { unpackBundle, uploadBundle } from '../../coordinator/fleet/install/upload.ts'
import type { SshConnection } from '../../coordinator/fleet/ssh/connection.ts'
import { rootShell } from '../../coordinator/fleet/ssh/elevation.ts'
import { createSecrets } from '../../coordinator/fleet/ssh/secrets.ts'
import { type Hosts, makeHosts } from '../support/hosts.ts'
import { poll } from '../support/poll.ts'
import { type SshHost, startSshHost } from '../support/ssh-host.ts'
import { expectError } from './expect-error.ts'
import { makeSmallBundle } from './small-bundle.ts'
import { makeOperator, type Operator } from './ssh-operator.ts'

const MEGABYTES = 12
const signal = new AbortController().signal

describe('The upload of a bundle', function () {
  this.timeout(30_000)
  let hosts: Hosts
  let host: SshHost
  let operator: Operator
  let bundle: Bundle

  before(async () => {
    hosts = await makeHosts(['db'])
    host = await startSshHost(hosts, 'db')
    operator = await makeOperator()
    await operator.writeSsh('known_hosts', host.knownHost)
    await host.addUser('ops')
    await host.authorize('ops', await operator.makeKey('id_ed25519'))
    await host.sudoers('ops ALL=(ALL) NOPASSWD: ALL\n')
    bundle = await makeSmallBundle(operator.home, { version: '1.0.0', randomBytes: MEGABYTES * 1024 ** 2 })
  })

  after(async () => {
    await operator?.remove()
    await host?.stop()
    await hosts?.remove()
  })

  afterEach(() => host.shell('umount /opt/howdah 2>/dev/null; rm -rf /opt/howdah'))

  const connect = async () => {
    const connection = await operator.connect(`ops@${host.address}`)
    const secrets = createSecrets(undefined)
    const root = await rootShell(connection, { become: 'sudo', secrets, note: () => undefined, signal })
    return { connection, root, name: 'ops@db', signal }
  }

  /** @returns where the upload began */
  const upload = async (
    of: Bundle = bundle,
    onProgress: (done: number, connection: SshConnection) => void = () => undefined,
  ) => {
    const parts = await connect()
    let began: number | undefined
    const progress = (done: number): void => {
      began ??= done
      onProgress(done, parts.connection)
    }
    const sent = await uploadBundle({ ...parts, bundle: of, progress })
    return { parts, began, sent }
  }

  /** Beside the lock of unpacking. */
  const there = async () =>
    (await readdir(path.join(host.root, 'opt/howdah'))).filter((name) => name !== '.lock')

  it('is checked, unpacked as root, and not sent again', async () => {
    const { parts } = await upload()
    expect((await upload()).sent).to.equal(false)
    await unpackBundle({ ...parts, bundle })
    expect(await there()).to.deep.equal(['1.0.0'])
    expect(await host.shell('stat -c "%U %a" /opt/howdah/1.0.0 /opt/howdah/1.0.0/random')).to.equal(
      'root 755\nroot 644\n',
    )
    await upload()
    await unpackBundle({ ...parts, bundle })
    expect(await there()).to.deep.equal(['1.0.0'])
  })

  it('goes on after a cut, from where it ended', async () => {
    let isCut = false
    const cut = upload(bundle, (done) => {
      if (done < 4 * 1024 ** 2 || isCut) return
      isCut = true
      void host.cutConnections()
    })
    await expectError(cut, 'operation_failed', 'the connection')
    await partOfBundle()
    const { began, parts } = await upload()
    expect(began).to.be.within(1, bundle.bytes - 1)
    await unpackBundle({ ...parts, bundle })
    expect(await there()).to.deep.equal(['1.0.0'])
  })

  it('begins again where what is there is no beginning of it', async () => {
    await host.shell(
      `mkdir -p /opt/howdah && echo something else >/opt/howdah/.upload-${bundle.sha256.slice(0, 16)}.tar.gz`,
    )
    const { began, parts } = await upload()
    expect(began).to.equal(0)
    await unpackBundle({ ...parts, bundle })
  })

  it('that was changed there is not unpacked, but removed', async () => {
    const { parts } = await upload()
    await host.shell('for f in /opt/howdah/.upload-*; do echo more >>$f; done')
    await expectError(
      unpackBundle({ ...parts, bundle }),
      'operation_failed',
      'what arrived on ops@db is not the bundle',
    )
    expect(await there()).to.deep.equal([])
  })

  it('to a full disk says so, and goes on when there is room', async () => {
    await host.shell('mkdir -p /opt/howdah && mount -t tmpfs -o size=5m tmpfs /opt/howdah')
    await expectError(upload(), 'space_low', 'the disk is full on ops@db', 'Make room in /opt/howdah')
    await host.shell('mount -o remount,size=40m /opt/howdah')
    const { began, parts } = await upload()
    expect(began).to.be.greaterThan(4 * 1024 ** 2)
    await unpackBundle({ ...parts, bundle })
  })

  it('that has no room when it is unpacked leaves no half of a version', async () => {
    const zeros = await makeSmallBundle(operator.home, { version: '1.0.1', zeroBytes: 8 * 1024 ** 2 })
    await host.shell('mkdir -p /opt/howdah && mount -t tmpfs -o size=4m tmpfs /opt/howdah')
    const { parts } = await upload(zeros)
    await expectError(unpackBundle({ ...parts, bundle: zeros }), 'space_low', 'the disk is full on ops@db')
    expect(await host.shell('ls /opt/howdah')).to.equal('')
    await host.shell('mount -o remount,size=40m /opt/howdah')
    await unpackBundle({ ...parts, bundle: zeros })
    expect(await host.shell('ls -A /opt/howdah')).to.equal('.lock\n1.0.1\n')
  })

  it('cut off while it is unpacked leaves no half of a version, and is unpacked by the next attempt', async () => {
    const { parts } = await upload()
    await host.shell('cp /usr/bin/tar /tmp/real-tar')
    const slow = '#!/bin/sh\ncase "$*" in *-xzf*) sleep 60 ;; *) exec /tmp/real-tar "$@" ;; esac\n'
    await writeFile(path.join(host.root, 'tmp/slow-tar'), slow, { mode: 0o755 })
    await host.shell('mount --bind /tmp/slow-tar /usr/bin/tar')
    try {
      const unpacking = unpackBundle({ ...parts, bundle })
      unpacking.catch(() => undefined)
      await poll(async () => ((await there()).includes('1.0.0.partial') ? true : undefined), {
        deadlineMs: 10_000,
        failure: () => 'nothing is unpacked',
      })
      await host.killProcesses()
      await expectError(unpacking, 'operation_failed', 'connection')
      expect(await there())
        .to.include('1.0.0.partial')
        .and.to.not.include('1.0.0')
    } finally {
      await host.shell('umount /usr/bin/tar')
      await host.start()
    }
    await unpackBundle({ ...(await connect()), bundle })
    expect(await there()).to.deep.equal(['1.0.0'])
  })

  it('is refused when the bundle is not what its hash says', async () => {
    const damaged = await makeSmallBundle(operator.home, { version: '1.0.2' })
    await writeFile(damaged.file, 'damaged')
    await expectError(openBundle(damaged.file, []), 'configuration', 'is damaged or incomplete')
    await expectError(openBundle(undefined, ['/nowhere']), 'configuration', 'npm run bundle')
    await expectError(
      openBundle(undefined, [operator.home]),
      'configuration',
      'there are several bundles',
      '--bundle',
    )
  })

  async function partOfBundle(): Promise<void> {
    await poll(
      async () => ((await host.shell('cat /opt/howdah/.upload-* | wc -c')).trim() === '0' ? undefined : true),
      {
        deadlineMs: 5_000,
        failure: () => 'nothing arrived',
      },
    )
  }
})
