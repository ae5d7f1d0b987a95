/**
 * Owns the services of docker-compose.yml as containers without an engine: started in the order of `depends_on`, each in its
 * own network, with the names of the services in /etc/hosts. Takes root; `remove` leaves nothing.
 */
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { type Hosts, makeHosts } from '../support/hosts.ts'
import { MARK } from '../support/leftovers.ts'
import { poll } from '../support/poll.ts'
import { IN_MEMORY } from '../support/scratch.ts'
import {
  type Condition,
  milliseconds,
  readServices,
  type Service,
  type Services,
  unescapeDollars,
} from './compose-file.ts'
import { type Container, startContainer, type Volume } from './container.ts'
import { type Image, makeImage } from './image.ts'

const READY_MS = 60_000
const KILL_MS = 0

export interface Project {
  readonly services: Services
  container(service: string): Container
  /** Runs a service once more that ends by itself. @returns its status */
  runAgain(service: string): Promise<number>
  remove(): Promise<void>
}

/** @throws Error with what a service printed when it is not ready or does not do what others wait for; nothing is left then */
export async function startProject(): Promise<Project> {
  const services = readServices()
  const roots = await mkdtemp(path.join(IN_MEMORY, 'howdah-compose-'))
  const volumes = await mkdtemp(path.join(tmpdir(), 'howdah-compose-'))
  const images = new Map<string, Image>()
  const containers = new Map<string, Container>()
  let hosts: Hosts | undefined
  let made = 0

  async function remove(): Promise<void> {
    for (const container of containers.values()) await container.stop(KILL_MS)
    await hosts?.remove()
    for (const image of images.values()) await image.remove()
    for (const directory of [roots, volumes]) await rm(directory, { recursive: true, force: true })
  }

  async function start(name: string): Promise<Container> {
    const service = services[name] as Service
    const container = await startContainer({
      ...containerOptions(service),
      directory: path.join(roots, String(made++)),
      ...processOf(service),
      volumes: await Promise.all((service.volumes ?? []).map((line) => volume(line, volumes))),
      hostname: service.hostname ?? name,
      hosts: hostsFile(),
      network: (command) =>
        service.network_mode === 'none'
          ? ['unshare', '--net', '--', ...command]
          : (hosts as Hosts).on(name, command),
    })
    containers.set(name, container)
    return container
  }

  function processOf({ image, entrypoint, command = [], environment }: Service) {
    const { layers, workingDirectory, ...of } = images.get(image) as Image
    return {
      ...{ layers, workingDirectory },
      command: unescapeDollars([...(entrypoint ?? of.entrypoint), ...command]),
      // Docker sets HOME, too; the mark makes known to the tests what they started.
      environment: { HOME: '/root', ...of.environment, ...environment, [MARK]: process.env[MARK] ?? '' },
    }
  }

  function hostsFile(): string {
    const lines = Object.keys(services)
      .filter((name) => services[name]?.network_mode !== 'none')
      .map((name) => `${hosts?.address(name)} ${name}`)
    return ['127.0.0.1 localhost', '::1 localhost', ...lines, ''].join('\n')
  }

  const starting = new Map<string, Promise<Container>>()
  function started(name: string): Promise<Container> {
    let begun = starting.get(name)
    if (begun === undefined) {
      begun = startAfterNeeds(name)
      starting.set(name, begun)
    }
    return begun
  }

  async function startAfterNeeds(name: string): Promise<Container> {
    for (const [other, { condition }] of Object.entries(services[name]?.depends_on ?? {}))
      await reach(other, condition)
    return start(name)
  }

  async function reach(name: string, condition: Condition): Promise<void> {
    const container = await started(name)
    if (condition === 'service_healthy') return healthy(name, services[name] as Service, container)
    const status = await container.ended
    if (status !== 0) throw new Error(`${name} ended with ${status}:\n${container.output()}`)
  }

  try {
    const names = Object.keys(services)
    for (const { image } of Object.values(services))
      if (!images.has(image)) images.set(image, await makeImage(image))
    hosts = await makeHosts(names.filter((name) => services[name]?.network_mode !== 'none'))
    const isOneShot = (name: string) => services[name]?.restart === 'no'
    const reached = await Promise.allSettled(
      names.map((name) =>
        reach(name, isOneShot(name) ? 'service_completed_successfully' : 'service_healthy'),
      ),
    )
    for (const one of reached) if (one.status === 'rejected') throw one.reason
  } catch (error) {
    await remove()
    throw error
  }

  return {
    services,
    remove,
    container: (name) => containers.get(name) as Container,
    async runAgain(name) {
      const container = await start(name)
      return container.ended
    },
  }
}

function containerOptions(service: Service) {
  return {
    user: service.user,
    capDrop: service.cap_drop,
    capAdd: service.cap_add,
    noNewPrivileges: service.security_opt?.includes('no-new-privileges:true') ?? false,
    readOnly: service.read_only ?? false,
    init: service.init ?? false,
    tmpfs: service.tmpfs ?? [],
    devices: (service.devices ?? []).map((line) => line.split(':')[0] ?? ''),
    shmSize: service.shm_size === undefined ? undefined : String(service.shm_size).replace(/b$/, ''),
  }
}

/** `NAME:TARGET` or `PATH:TARGET`, with `:ro` or `:rw`. */
async function volume(line: string, directory: string): Promise<Volume> {
  const [name = '', target = '', mode] = line.split(':')
  const source = name.startsWith('/') ? name : path.join(directory, name)
  if (source !== name) await mkdir(source, { recursive: true, mode: 0o755 })
  return { source, target, readOnly: mode === 'ro' }
}

/** By the service's own check and its time limit, looked at more often than an engine would. */
async function healthy(name: string, { healthcheck }: Service, container: Container): Promise<void> {
  const [kind, ...words] = healthcheck?.test ?? []
  if (words.length === 0) throw new Error(`${name} has no check`)
  const command = kind === 'CMD-SHELL' ? ['/bin/sh', '-c', ...words] : words
  const timeoutMs = milliseconds(healthcheck?.timeout)
  let reason: unknown
  await poll(
    async () => {
      try {
        await container.exec(command, { timeoutMs })
        return true
      } catch (error) {
        reason = error
        const status = await Promise.race([container.ended, undefined])
        if (status !== undefined) throw new Error(`${name} ended with ${status}:\n${container.output()}`)
        return undefined
      }
    },
    {
      deadlineMs: READY_MS,
      everyMs: 250,
      failure: () => new Error(`${name} is not ready: ${reason}\n${container.output()}`),
    },
  )
}
