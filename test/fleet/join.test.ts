/** Hosts that join the fleet by themselves, at a real broker with TLS and logins by certificate only. */
import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { expect } from 'chai'
import { pino } from 'pino'
import { type CertificatePaths, ensureCertificates } from '../../coordinator/fleet/authority/certificates.ts'
import { signCertificate } from '../../coordinator/fleet/authority/x509.ts'
import { hostPaths, type IdentityFiles, identityFiles } from '../../coordinator/fleet/host/host-paths.ts'
import {
  decodeInvitation,
  encodeInvitation,
  type Invitation,
} from '../../coordinator/fleet/host/invitation-token.ts'
import { joinFleet } from '../../coordinator/fleet/host/join.ts'
import type { HostReport } from '../../coordinator/fleet/host/report.ts'
import { HowdahError } from '../../messages/errors.ts'
import { invitedUser } from '../../messages/permissions.ts'
import { useEnrollingFleet } from '../support/enrolling-fleet.ts'
import type { CommandOutcome } from '../support/fleet-client.ts'
import { type HostRoot, makeHostRoot } from '../support/host-root.ts'
import { poll } from '../support/poll.ts'

const CHECKOUT = path.resolve(import.meta.dirname, '../..')
const ROOT = { uid: 0, gid: 0 }
const DAY_MS = 86_400_000
const logger = pino({ level: process.env.HOWDAH_TEST_LOG ?? 'silent' })

describe('a host that joins by an invitation', function () {
  this.timeout(90_000)
  const fleet = useEnrollingFleet()

  /** Joins in this process, with the files of a host of its own. */
  async function join(
    name: string,
    invitation: Invitation,
    now?: () => number,
  ): Promise<{ report: HostReport; files: IdentityFiles }> {
    const files = identityFiles(hostPaths(path.join(fleet.directory, name)), invitation.kind)
    const signal = AbortSignal.timeout(60_000)
    const options = { files, owner: ROOT, signal, logger, ...(now && { now }) }
    await mkdir(path.dirname(files.ca), { recursive: true })
    return { report: await joinFleet(invitation, options), files }
  }

  async function refusal(joining: Promise<unknown>): Promise<HowdahError> {
    const error = await joining.then(
      () => undefined,
      (failed: unknown) => failed,
    )
    expect(error).to.be.instanceOf(HowdahError)
    return error as HowdahError
  }

  const untilGone = (user: string) =>
    poll(async () => ((await fleet.users()).includes(user) ? undefined : true), {
      deadlineMs: 20_000,
      failure: () => `the user ${user} is still there`,
    })

  it('is invited by an operator, and by nobody else', async () => {
    const args = ['agent', 'invite', '--kind', 'target', '--name', 'db-1', '--ttl', '15m']
    const { status, stdout, stderr } = await fleet.howdah(fleet.operator, ...args)
    expect(status, stderr).to.equal(0)
    expect(stdout).to.match(/^howdah-join-1\.[A-Za-z0-9_-]+\n$/)
    expect(stderr).to.match(/for the target agent db-1, until .*Authority SHA256:[A-Za-z0-9+/]{43}\./)
    const other = await fleet.howdah(fleet.client, ...args)
    expect(other.status).to.equal(1)
    expect(other.stderr).to.include('agent.invite')
  })

  it('has its certificate once it has joined, and the invitation is gone', async () => {
    const { token, invitation } = await fleet.invite('--kind', 'target', '--name', 'db-2')
    expect(await fleet.users()).to.include(invitedUser(invitation))
    const { report, files } = await join('two', decodeInvitation(token))
    expect(report.changed).to.have.members([files.ca, files.key, files.certificate])
    expect((await stat(files.key)).mode & 0o777).to.equal(0o600)
    expect(await fleet.users()).to.include('howdah-target-db-2')
    await untilGone(invitedUser(invitation))
    const again = await join('two', decodeInvitation(token))
    expect(again.report.changed).to.deep.equal([])
    const stranger = await refusal(join('other', decodeInvitation(token)))
    expect(stranger.code).to.equal('unauthorized')
    expect(stranger.message).to.include('not valid any more').and.include('agent invite')
  })

  it('makes an earlier invitation of the same agent useless by a later one', async () => {
    const first = await fleet.invite('--kind', 'mount', '--name', 'backup-3', '--address', 'backup-3.example')
    const second = await fleet.invite(
      '--kind',
      'mount',
      '--name',
      'backup-3',
      '--address',
      'backup-3.example',
    )
    const refused = await refusal(join('three', decodeInvitation(first.token)))
    expect(refused.message).to.include('not valid any more')
    await join('three', decodeInvitation(second.token))
  })

  it('trusts no broker of another authority, and says so when the clock is wrong', async () => {
    const { token } = await fleet.invite('--kind', 'target', '--name', 'db-4')
    const invitation = decodeInvitation(token)
    const foreign = path.join(fleet.directory, 'foreign')
    await ensureCertificates(foreign, { identities: [{ kind: 'client', name: 'x', addresses: [] }] })
    const ca = await readFile(path.join(foreign, 'ca.pem'), 'utf8')
    const other = await refusal(join('four', { ...invitation, ca }))
    expect(other.code).to.equal('unauthorized')
    expect(other.message).to.include('not issued by the authority that the invitation names')
    const late = await refusal(join('four', invitation, () => Date.now() - 2 * DAY_MS))
    expect(late.message).to.match(/valid from .*this machine's clock says/)
    // The same key, once the clock is right.
    expect((await join('four', invitation)).report.changed).to.have.length(3)
  })

  it('is refused by the broker itself after the invitation has expired', async () => {
    const { token, invitation: id } = await fleet.invite('--kind', 'target', '--name', 'db-5')
    const invitation = decodeInvitation(token)
    const authority = {
      certificate: invitation.ca,
      key: await readFile(path.join(fleet.tls, 'ca.key'), 'utf8'),
    }
    const { createPublicKey } = await import('node:crypto')
    const [notBefore, notAfter] = [new Date(Date.now() - 3_600_000), new Date(Date.now() - 60_000)]
    const certificate = await signCertificate(authority, createPublicKey(invitation.key), {
      ...{ commonName: invitedUser(id), names: [], usages: ['client'], notBefore, notAfter },
    })
    const expired = { ...invitation, certificate, expiresAt: notAfter.toISOString() }
    const refused = await refusal(join('five', expired))
    expect(refused.code).to.equal('unauthorized')
    expect(refused.message).to.include(`it expired at ${notAfter.toISOString()}`)
  })

  it('joins by the same token after the coordinator was killed before it answered', async () => {
    const { token } = await fleet.invite('--kind', 'target', '--name', 'db-6')
    const invitation = decodeInvitation(token)
    fleet.coordinator.process.kill('SIGSTOP')
    const joining = join('six', invitation).catch((error: unknown) => error)
    await fleet.restartCoordinator()
    await joining
    await join('six', invitation)
    expect(
      existsSync(identityFiles(hostPaths(path.join(fleet.directory, 'six')), 'target').certificate),
    ).to.equal(true)
  })

  it('is enrolled again with another key after it was revoked', async () => {
    const first = decodeInvitation((await fleet.invite('--kind', 'target', '--name', 'db-11')).token)
    const { files } = await join('eleven', first)
    const [certificate, key] = [await readFile(files.certificate), await readFile(files.key)]
    await fleet.revoke({ kind: 'target', name: 'db-11' })
    const args = ['--kind', 'target', '--name', 'db-11']
    const refused = await fleet.howdah(fleet.operator, 'agent', 'invite', ...args)
    expect(refused.stderr).to.include('was revoked')
    const second = decodeInvitation((await fleet.invite(...args, '--again')).token)
    await join('eleven', second)
    expect(await readFile(files.certificate)).not.to.deep.equal(certificate)
    expect(await readFile(files.key)).not.to.deep.equal(key)
    const left = await readdir(path.dirname(files.key))
    expect(left.sort()).to.deep.equal([
      'ca.pem',
      'target-agent.invitation',
      'target-agent.key',
      'target-agent.pem',
    ])
  })

  it('can do nothing with its invitation but join', async () => {
    const { token } = await fleet.invite('--kind', 'target', '--name', 'db-7')
    const { id, ca, certificate, key } = decodeInvitation(token)
    const files = ['ca.pem', 'invited.pem', 'invited.key'].map((name) =>
      path.join(fleet.directory, name),
    ) as [string, string, string]
    for (const [index, pem] of [ca, certificate, key].entries()) await writeFile(files[index] ?? '', pem)
    const invited = { cert: files[1], key: files[2] } as CertificatePaths
    for (const verb of [
      ['sessions'],
      ['agents'],
      ['agent', 'invite', '--kind', 'target', '--name', 'db-8'],
    ]) {
      const { status, stderr } = await fleet.howdah(invited, ...verb)
      expect(status, `${verb}`).to.equal(1)
      expect(stderr, `${verb}`).to.match(/not allow|access|refused/i)
    }
    expect(await fleet.users()).to.include(invitedUser(id))
  })

  describe('with howdah agent join', () => {
    let host: HostRoot

    before(async () => {
      host = await makeHostRoot()
      const { version } = JSON.parse(await readFile(path.join(CHECKOUT, 'package.json'), 'utf8')) as {
        version: string
      }
      const programs = `/opt/howdah/${version}`
      await host.shell(
        `mkdir -p ${programs} && mount --bind ${CHECKOUT} ${programs} && ln -s ${version} /opt/howdah/current`,
      )
    })
    after(() => host?.remove())

    const onHost = (command: string) =>
      host.shell(command).then(
        (stdout) => ({ status: 0, stdout, stderr: '' }),
        ({ code, stdout, stderr }) => ({ status: Number(code), stdout, stderr }) as CommandOutcome,
      )
    const JOIN = '/opt/howdah/current/bin/howdah agent join'

    it('refuses what is no token, and one for another name or of another authority', async () => {
      const { token, fingerprint } = await fleet.invite('--kind', 'target', '--name', 'db-9')
      await writeFile(path.join(host.root, 'run/token'), token, { mode: 0o600 })
      const wrong = [
        ['echo nonsense | JOIN', 'the token is none of "howdah agent invite"'],
        ['head -c 900 /run/token | JOIN', 'the token is damaged or not complete'],
        ['JOIN < /dev/null', 'the token is empty'],
        ['JOIN --token-file /run/nowhere', '/run/nowhere: ENOENT'],
        ['JOIN --token-file /run/token --name db-8', 'the token is for the target agent "db-9"'],
        [
          `JOIN --token-file /run/token --fingerprint SHA256:${'A'.repeat(43)}`,
          `its fingerprint is ${fingerprint}`,
        ],
      ] as const
      for (const [command, message] of wrong) {
        const { status, stderr } = await onHost(command.replace('JOIN', JOIN))
        expect(status, command).to.equal(1)
        expect(stderr, command).to.include(message).and.not.include(token.slice(20, 60))
      }
      expect(existsSync(path.join(host.root, 'etc/howdah'))).to.equal(false)
    })

    it('becomes an agent that is online, and stays it when that is repeated', async () => {
      const { token, fingerprint } = await fleet.invite('--kind', 'target', '--name', 'db-9')
      const file = path.join(host.root, 'run/token')
      await writeFile(file, token, { mode: 0o600 })
      const command = `${JOIN} --name db-9 --fingerprint ${fingerprint} --json`
      const first = await onHost(`HOWDAH_JOIN_TOKEN=$(cat /run/token) ${command}`)
      expect(first.status, first.stderr).to.equal(0)
      expect((JSON.parse(first.stdout) as HostReport).changed).to.include.members([
        '/etc/howdah/tls/ca.pem',
        '/etc/howdah/tls/target-agent.pem',
        'target agent: started',
      ])
      await fleet.untilOnline('db-9')
      const again = await onHost(`${command} < /run/token`)
      expect(again.status, again.stderr).to.equal(0)
      expect((JSON.parse(again.stdout) as HostReport).changed).to.deep.equal([])
      await onHost('/opt/howdah/current/bin/howdah agent stop')
    })

    it('leaves no token and no key in any log', async () => {
      const { token } = await fleet.invite('--kind', 'target', '--name', 'db-10')
      await join('ten', decodeInvitation(token))
      const logs = [fleet.coordinator.log.join('\n'), await host.shell('cat /var/log/howdah/*')].join('\n')
      const { key } = decodeInvitation(token)
      const secret = encodeInvitation(decodeInvitation(token)).slice(-80)
      for (const part of [secret, key.split('\n')[1] ?? '']) expect(logs).not.to.include(part)
    })
  })
})
