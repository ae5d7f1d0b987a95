/** How hosts are named on the command line, and what OpenSSH's configuration says of them. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { expect } from 'chai'
import { formatSshAddress, parseSshAddress } from '../../coordinator/fleet/ssh/address.ts'
import { hostSettings } from '../../coordinator/fleet/ssh/openssh-configuration.ts'

describe('The address of a host', () => {
  const cases: readonly (readonly [string, object | undefined])[] = [
    ['db-7', { host: 'db-7' }],
    ['ops@db-7.example:2222', { user: 'ops', host: 'db-7.example', port: 2222 }],
    ['ops@[2001:db8::7]:22', { user: 'ops', host: '2001:db8::7', port: 22 }],
    ['ssh://ops@db-7:2222/', { user: 'ops', host: 'db-7', port: 2222 }],
    ['CORP\\ops@db-7', { user: 'CORP\\ops', host: 'db-7' }],
    ['ops@example.com@db-7', { user: 'ops@example.com', host: 'db-7' }],
    ['2001:db8::7', undefined],
    ['-oProxyCommand=x', undefined],
    ['-l@db-7', undefined],
    ['db-7:0', undefined],
    ['db-7:70000', undefined],
    ['db 7', undefined],
    ['$(reboot)@db-7', undefined],
    ['', undefined],
  ]
  for (const [text, expected] of cases)
    it(`${JSON.stringify(text)} is ${expected === undefined ? 'none' : 'understood'}`, () => {
      expect(parseSshAddress(text)).to.deep.equal(expected)
    })

  it('is written as it is read', () => {
    for (const text of ['db-7', 'ops@db-7:2222', 'ops@[2001:db8::7]'])
      expect(formatSshAddress(parseSshAddress(text) ?? { host: '' })).to.equal(text)
  })
})

describe("OpenSSH's configuration", () => {
  let home: string

  beforeEach(() => {
    home = mkdtempSync(path.join(tmpdir(), 'howdah-ssh-config-'))
  })
  afterEach(() => rmSync(home, { recursive: true }))

  const settings = (config: string, host = 'db-7', env: NodeJS.ProcessEnv = {}) => {
    const file = path.join(home, 'config')
    writeFileSync(file, config)
    return hostSettings({ host }, { home, user: 'me', env, files: [file] })
  }

  it('need not exist', () => {
    const found = hostSettings({ host: 'db-7' }, { home, user: 'me', env: {}, files: ['/nowhere/config'] })
    expect(found).to.include({
      host: 'db-7',
      port: 22,
      user: 'me',
      unknownHostKey: 'ask',
      identitiesOnly: false,
    })
    expect(found.identityFiles).to.include(`${home}/.ssh/id_ed25519`)
    expect(found.userKnownHostsFiles[0]).to.equal(`${home}/.ssh/known_hosts`)
  })

  it('gives the first value of a keyword, whatever its case, and none of a host that is left out', () => {
    const config =
      'host db-* !db-8\n  user=first\n  PORT 2222\nHost *\n  User second\n  hostname %h.example\n'
    expect(settings(config)).to.include({ user: 'first', port: 2222, host: 'db-7.example' })
    expect(settings(config, 'db-8')).to.include({ user: 'second', port: 22, host: 'db-8.example' })
  })

  it('expands tokens, variables and the home directory in the names of files', () => {
    const config = `IdentityFile ~/.ssh/%r@%h\nIdentityFile "\${KEYS}/a key"\nUserKnownHostsFile ~/a %d/b\nUser ops\n`
    const found = settings(config, 'db-7', { KEYS: '/keys' })
    expect(found.identityFiles).to.deep.equal([`${home}/.ssh/ops@db-7`, '/keys/a key'])
    expect(found.userKnownHostsFiles).to.deep.equal([`${home}/a`, `${home}/b`])
  })

  it('names jump hosts, the ssh-agent, and what becomes of unknown host keys', () => {
    expect(settings('ProxyJump a@one,two:2222\n').jumps).to.deep.equal(['a@one', 'two:2222'])
    expect(settings('ProxyJump none\n').jumps).to.deep.equal([])
    expect(settings('IdentityAgent none\n', 'db-7', { SSH_AUTH_SOCK: '/a' }).agentSocket).to.equal(undefined)
    expect(settings('IdentityAgent $MINE\n', 'db-7', { MINE: '/b' }).agentSocket).to.equal('/b')
    expect(settings('StrictHostKeyChecking yes\n').unknownHostKey).to.equal('refuse')
    expect(settings('StrictHostKeyChecking accept-new\n').unknownHostKey).to.equal('accept')
  })

  it('is refused where it needs a program to be run, or is wrong', () => {
    expect(() => settings('ProxyCommand nc %h %p\n')).to.throw('ProxyCommand, which Howdah does not run')
    expect(() => settings('ProxyCommand none\n')).to.not.throw()
    expect(() => settings('Port many\n')).to.throw('no valid Port')
  })
})
