/** docker-compose.yml and the Dockerfile as texts; services.test.ts starts what they describe. */
import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { expect } from 'chai'
import { loadConfig } from '../../config/load.ts'
import { coordinatorSchema, mountAgentSchema, targetAgentSchema } from '../../config/schema.ts'
import { CHECKOUT, readServices, type Service, type Services, STORE_PASSWORD } from './compose-file.ts'

describe('docker-compose.yml', function () {
  this.timeout(60_000)
  let services: Services
  const service = (name: string): Service => services[name] as Service

  before(() => {
    services = readServices()
  })

  it('names a release of each image', () => {
    for (const { image } of Object.values(services))
      expect(image).to.match(/:(local|\d+\.\d+(\.\d+)?(-[a-z]+)?)$/)
    const [, base] = /^FROM (\S+)$/m.exec(readFileSync(path.join(CHECKOUT, 'Dockerfile'), 'utf8')) ?? []
    expect(base).to.match(/^node:24\.\d+\.\d+-bookworm$/)
  })

  it('copies what there is into the image', () => {
    const copied = [...readFileSync(path.join(CHECKOUT, 'Dockerfile'), 'utf8').matchAll(/^COPY (.+) \S+$/gm)]
    for (const file of copied.flatMap(([, files = '']) => files.split(' ')))
      expect(existsSync(path.join(CHECKOUT, file)), file).to.equal(true)
  })

  it('waits for what ends, and for what is ready by a check of its own', () => {
    for (const [name, { depends_on = {} }] of Object.entries(services)) {
      for (const [other, { condition }] of Object.entries(depends_on)) {
        const { restart, healthcheck } = service(other)
        if (condition === 'service_completed_successfully')
          expect(restart, `${name} → ${other}`).to.equal('no')
        else expect(healthcheck?.test, `${name} → ${other}`).to.be.an('array')
      }
    }
    for (const role of ['coordinator', 'mount-agent', 'target-agent'])
      expect(service(role).healthcheck?.test?.join(' ')).to.include(
        service(role).environment?.HOWDAH_METRICS_LISTEN,
      )
  })

  it('gives a container no more than it needs', () => {
    for (const [name, { privileged, cap_drop }] of Object.entries(services)) {
      expect(privileged, name).to.equal(undefined)
      if (['certificates', 'sample-repository', 'coordinator', 'mount-agent'].includes(name))
        expect(cap_drop, name).to.deep.equal(['ALL'])
    }
  })

  it('configures each role with what the role knows', () => {
    const mounted = path.join(CHECKOUT, 'config', 'compose-mount-agent.json')
    const env = (name: string) => ({ ...service(name).environment })
    const { store } = loadConfig(coordinatorSchema, { env: env('coordinator'), args: [] })
    expect(store.url).to.equal(`postgres://howdah:${STORE_PASSWORD}@store:5432/howdah`)
    const mount = loadConfig(mountAgentSchema, { file: mounted, env: env('mount-agent'), args: [] })
    const target = loadConfig(targetAgentSchema, { env: env('target-agent'), args: [] })
    expect(service('mount-agent').volumes?.join(' ')).to.include(`:${mount.repositories[0]?.path}:ro`)
    const made = service('certificates').command?.join(' ') ?? ''
    expect(made).to.include(`issue mount ${mount.name} --address ${mount.dataPlane.advertise}`)
    expect(made).to.include(`issue target ${target.name}`)
    expect(made).to.include(`--agent mount:${mount.name} --agent target:${target.name}`)
    for (const { tls, broker } of [mount, target]) {
      expect(broker).to.include({ certificate: tls.certificate, key: tls.key, ca: tls.ca })
      for (const file of [tls.certificate, tls.key]) expect(made).to.include(path.basename(file))
    }
  })
})
