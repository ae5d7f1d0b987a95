import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import type { Writable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'chai'
import { identify, isAlive } from '../../config/process-identity.ts'

describe('the identity of a process', () => {
  it('names a running process by its number, start time and parent', () => {
    const self = identify(process.pid)
    expect(self).to.include({ pid: process.pid, parent: process.ppid })
    expect(self?.startTime).to.match(/^[0-9]+$/)
    expect(self && isAlive(self)).to.equal(true)
  })

  it('is not that of a later process with the same number', () => {
    expect(isAlive({ pid: process.pid, startTime: '1' })).to.equal(false)
  })

  it('is undefined where no process has the number', () => {
    expect(identify(0)).to.equal(undefined)
  })

  it('is read correctly when the name of the program contains blanks and parentheses', async () => {
    const child = spawn('sh', ['-c', "printf 'a) S 1 (b' > /proc/$$/comm; echo named; read line"])
    await once(child.stdout, 'data')
    expect(readFileSync(`/proc/${child.pid}/comm`, 'latin1')).to.equal('a) S 1 (b\n')
    expect(identify(child.pid ?? 0)).to.include({ pid: child.pid, parent: process.pid })
    child.stdin.end('\n')
    await once(child, 'exit')
  })

  it('ends with the process, even while its parent has not collected the exit status', async () => {
    // A shell without job control gives its background jobs /dev/null as standard input; the child waits on another pipe.
    const parent = spawn('sh', ['-c', 'sh -c "echo \\$\\$; read line <&3" & exec sleep 30'], {
      stdio: ['ignore', 'pipe', 'ignore', 'pipe'],
    })
    const [output, input] = [parent.stdio[1], parent.stdio[3] as Writable]
    if (output === null) throw new Error('the parent has no pipe')
    const [pid] = (await once(output, 'data')) as [Buffer]
    const child = identify(Number(pid))
    if (child === undefined) throw new Error('the child does not run')
    input.end('\n')
    while (isAlive(child)) await sleep(5)
    expect(readFileSync(`/proc/${child.pid}/stat`, 'latin1')).to.match(/\) Z /)
    parent.kill('SIGKILL')
    await once(parent, 'exit')
  })
})
