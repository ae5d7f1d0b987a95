import { expect } from 'chai'
import { createHeldBackups } from '../../agents/mount/held-backups.ts'
import type { OpenBackup } from '../../agents/mount/repository.ts'
import { poll } from '../support/poll.ts'

const NAME = { repository: 'main', instance: 'shop', backup: 'monday' }

function fakeBackup(): { backup: OpenBackup; closed: () => number } {
  let closed = 0
  const close = async (): Promise<void> => {
    closed += 1
  }
  return { backup: { close } as OpenBackup, closed: () => closed }
}

describe('a backup that is held for its mount', () => {
  it('is taken once, and only by its name', () => {
    const held = createHeldBackups()
    const { backup, closed } = fakeBackup()
    held.hold(NAME, backup)
    expect(held.take({ ...NAME, backup: 'tuesday' })).to.equal(undefined)
    expect(held.take(NAME)).to.equal(backup)
    expect(held.take(NAME)).to.equal(undefined)
    held.close()
    expect(closed()).to.equal(0)
  })

  it('is closed when the same is held again, when nobody takes it, and at the end', async () => {
    const held = createHeldBackups(50)
    const [first, second, third] = [fakeBackup(), fakeBackup(), fakeBackup()]
    held.hold(NAME, first.backup)
    held.hold(NAME, second.backup)
    expect([first.closed(), second.closed()]).to.deep.equal([1, 0])
    await poll(() => (second.closed() === 1 ? true : undefined), {
      deadlineMs: 5_000,
      failure: () => 'it was not closed',
    })
    held.hold(NAME, third.backup)
    held.close()
    expect([first.closed(), second.closed(), third.closed()]).to.deep.equal([1, 1, 1])
  })
})
