import { expect } from 'chai'
import { pino } from 'pino'
import { type Device, DeviceChannel } from '../../agents/target/filesystem/drivers/kernel/device-channel.ts'
import { IN, OP } from '../../agents/target/filesystem/drivers/kernel/protocol.ts'
import { failure, message, messageDevice } from './support/fuse-messages.ts'

describe('the channel over a FUSE device', () => {
  const logged: string[] = []
  const logger = pino({}, { write: (line: string) => void logged.push(JSON.parse(line).msg) })
  const open = (device: Device) => new DeviceChannel(device, { nearFull: false }, logger)
  beforeEach(() => logged.splice(0))

  it('receives messages one at a time', () => {
    const channel = open(messageDevice([message(OP.GETATTR, 2), message(OP.LOOKUP, 4)]))
    const seen = [1, 2].map(() => channel.receive() && channel.request.word(IN.UNIQUE))
    expect(seen).to.deep.equal([2, 4])
  })

  it('goes on after a read that was interrupted, and after an incomplete message, which it logs', () => {
    const incomplete = message(OP.LOOKUP, 2, Buffer.from('name\0')).subarray(0, 42)
    const channel = open(
      messageDevice([failure('EINTR'), failure('ENOENT'), incomplete, message(OP.LOOKUP, 4)]),
    )
    expect([1, 2, 3, 4].map(() => channel.receive())).to.deep.equal([false, false, false, true])
    expect(channel.ended).to.equal(false)
    expect(logged).to.deep.equal(['the kernel sent an incomplete message on the FUSE device'])
  })

  it('has ended when the mount is gone, noticed by reading or by writing', () => {
    for (const code of ['ENODEV', 'ECONNABORTED']) {
      const reading = open(messageDevice([failure(code)]))
      expect([reading.receive(), reading.ended]).to.deep.equal([false, true])
      const writing = open({
        ...messageDevice([]),
        write() {
          throw failure(code)
        },
      })
      writing.send(writing.takeReply(), 16)
      expect(writing.ended).to.equal(true)
    }
    expect(logged).to.deep.equal([])
  })

  it('fails when the device does', () => {
    const channel = open(messageDevice([failure('EIO')]))
    expect(() => channel.receive())
      .to.throw('the FUSE device cannot be read')
      .with.property('code', 'mount_failed')
  })

  it('logs a reply that the kernel refuses, but not one to an aborted request', () => {
    const codes = ['ENOENT', 'EINVAL']
    const channel = open({
      ...messageDevice([]),
      write() {
        throw failure(codes.shift() ?? '')
      },
    })
    channel.send(channel.takeReply(), 16)
    expect(logged).to.deep.equal([])
    channel.send(channel.takeReply(), 16)
    expect([logged, channel.ended]).to.deep.equal([['the kernel refused a reply'], false])
  })

  it('uses the buffers of replies again, sent or not', () => {
    const channel = open(messageDevice([]))
    const [one, other] = [channel.takeReply(), channel.takeReply()]
    expect(one).not.to.equal(other)
    channel.send(one, one.finish(2, 0, 0, 0))
    channel.giveBack(other)
    expect(channel.takeReply() === other && channel.takeReply() === one).to.equal(true)
  })

  it('leaves a request alone that was kept, until it is released', () => {
    const channel = open(messageDevice([2, 4, 6, 8].map((unique) => message(OP.WRITE, unique))))
    channel.receive()
    const kept = channel.keepRequest()
    channel.receive()
    expect([kept.word(IN.UNIQUE), channel.request.word(IN.UNIQUE)]).to.deep.equal([2, 4])
    channel.releaseRequest(kept)
    channel.keepRequest()
    channel.receive()
    expect(channel.request).to.equal(kept)
  })
})
