/** A process that starts a Debian 13 with something that runs in it, and is killed by the test. Prints its traces when it is up. */
import { DEBIAN_13 } from '../support/layers.ts'
import { startDebianSystem } from './system.ts'

const system = await startDebianSystem(DEBIAN_13)
console.log(JSON.stringify(system.traces))
// By setsid also where nobody waits for it.
await system.run(['sh', '-c', 'mount -t tmpfs tmpfs /mnt && setsid sleep 600 & sleep 600'])
