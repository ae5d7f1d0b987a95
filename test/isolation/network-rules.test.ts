import { execFileSync } from 'node:child_process'
import { expect } from 'chai'
import { networkRules, tableName } from '../../agents/target/isolation/network-rules.ts'
import { parseOutbound, resolveOutbound } from '../../agents/target/isolation/outbound.ts'
import { OutboundHost } from '../../messages/primitives.ts'

describe('The outbound destinations of an instance', () => {
  it('are given as names and addresses, with or without a port', () => {
    expect(parseOutbound('db.example')).to.deep.equal({ host: 'db.example', port: undefined })
    expect(parseOutbound('10.0.0.7:5432')).to.deep.equal({ host: '10.0.0.7', port: 5432 })
    expect(parseOutbound('[2001:db8::1]:80')).to.deep.equal({ host: '2001:db8::1', port: 80 })
    expect(parseOutbound('[2001:db8::1]')).to.deep.equal({ host: '2001:db8::1', port: undefined })
  })

  it('are refused when they are neither', () => {
    for (const text of ['', 'a b', 'a:b', '2001:db8::1', 'x;drop', '-h', 'a:123456', '[::1', 'a}\n'])
      expect(OutboundHost.safeParse(text).success, text).to.equal(false)
    for (const text of ['a', 'a.b-c:1', '[::1]:5', '127.0.0.1'])
      expect(OutboundHost.safeParse(text).success, text).to.equal(true)
  })

  it('report names that cannot be resolved', async () => {
    const found = await resolveOutbound([parseOutbound('howdah.invalid'), parseOutbound('127.0.0.1:9')])
    expect(found.unknown).to.deep.equal(['howdah.invalid'])
    expect(found.addresses).to.deep.equal([{ address: '127.0.0.1', family: 4, port: 9 }])
  })
})

describe('the network rules of a session', () => {
  it('have an nftables table of their own', () => {
    expect(tableName('shop-a1-b2')).to.equal('howdah_shop_a1_b2')
  })

  it('are accepted by nft, with every kind of exception', () => {
    const rules = networkRules({
      session: 'check-rules',
      // nft looks the control group up.
      cgroup: { nftPath: '.', level: 0 },
      outbound: [
        { address: '10.0.0.7', family: 4, port: 5432 },
        { address: '10.0.0.8', family: 4, port: undefined },
        { address: '2001:db8::1', family: 6, port: 80 },
      ],
    })
    const checked = rules.replaceAll('socket cgroupv2 level 0 "."', 'meta skuid 65534')
    execFileSync('nft', ['--check', '-f', '-'], { input: checked, stdio: 'pipe' })
  })
})
