import { createHmac } from 'node:crypto'
import { expect } from 'chai'
import { fingerprintOf, keysByFingerprint, keysOfHost } from '../../config/ssh/known-hosts.ts'

const KEY = Buffer.from('a host key')
const OTHER = Buffer.from('another')
const text = (key: Buffer): string => key.toString('base64')

describe('Known hosts', () => {
  it('are found by name, by pattern and by hash, with their port', () => {
    const salt = Buffer.from('salt').toString('base64')
    const hash = createHmac('sha1', 'salt').update('[hashed.example]:2222').digest('base64')
    const file = `# comment\nplain.example,*.wild.example,!no.wild.example ssh-ed25519 ${text(KEY)} me@here\n|1|${salt}|${hash} ssh-ed25519 ${text(KEY)}\n`
    const knows = (host: string, port = 22): boolean => keysOfHost(file, host, port).accepts(KEY)
    expect(['plain.example', 'a.wild.example', 'PLAIN.example'].map((host) => knows(host))).to.deep.equal([
      true,
      true,
      true,
    ])
    expect(knows('hashed.example', 2222)).to.equal(true)
    expect([knows('no.wild.example'), knows('plain.example', 2222), knows('other.example')]).to.deep.equal([
      false,
      false,
      false,
    ])
  })

  it('accept no other key, and no revoked one', () => {
    const file = `db ssh-ed25519 ${text(KEY)}\ndb ssh-rsa ${text(OTHER)}\n@revoked * ssh-rsa ${text(OTHER)}\n@cert-authority * ssh-ed25519 ${text(OTHER)}`
    expect(keysOfHost(file, 'db', 22).accepts(KEY)).to.equal(true)
    expect(keysOfHost(file, 'db', 22).accepts(OTHER)).to.equal(false)
  })

  it('offer the server the algorithms of known keys', () => {
    expect(keysOfHost(`db ssh-rsa ${text(KEY)}`, 'db', 22).algorithms).to.deep.equal([
      'rsa-sha2-512',
      'rsa-sha2-256',
    ])
  })

  it('are known by fingerprint too', () => {
    expect(keysByFingerprint(fingerprintOf(KEY)).accepts(KEY)).to.equal(true)
    expect(keysByFingerprint(fingerprintOf(KEY)).accepts(OTHER)).to.equal(false)
  })
})
