/** Tries a mount as an agent does: `node trial-mount-child.ts TRIAL USER`, both as JSON; prints the findings. */
import { pino } from 'pino'
import { tryMount } from '../../agents/target/trial-mount/trial-mount.ts'

const [trial = '', user = ''] = process.argv.slice(2)
console.log(JSON.stringify(await tryMount(JSON.parse(trial), JSON.parse(user), pino({ level: 'silent' }))))
