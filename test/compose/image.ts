/**
 * Owns the images of docker-compose.yml as layers of directories: ours by the steps of the Dockerfile, and stand-ins for
 * RabbitMQ's and PostgreSQL's own, from the packages of Debian 12. Takes root.
 */
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { cp, mkdir, mkdtemp, readFile, rm, symlink } from 'node:fs/promises'
import path from 'node:path'
import { promisify } from 'node:util'
import { DEBIAN_12, type Layers, layerOver } from '../support/layers.ts'
import { IN_MEMORY } from '../support/scratch.ts'
import { CHECKOUT } from './compose-file.ts'
import { type Instruction, parseDockerfile } from './dockerfile.ts'

const run = promisify(execFile)
const DEBIAN_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

export interface Image {
  readonly layers: Layers
  readonly environment: Readonly<Record<string, string>>
  readonly workingDirectory: string
  readonly entrypoint: readonly string[]
  remove(): Promise<void>
}

/** @param name as in docker-compose.yml */
export async function makeImage(name: string): Promise<Image> {
  if (name === 'howdah:local') return makeOurs()
  if (name.startsWith('postgres:15.')) return makePostgres()
  if (name.startsWith('rabbitmq:')) return makeRabbitMQ()
  throw new Error(`there is nothing that stands for the image ${name}`)
}

async function ourInstructions(): Promise<Instruction[]> {
  return parseDockerfile(await readFile(path.join(CHECKOUT, 'Dockerfile'), 'utf8'))
}

/**
 * FROM is a bare Debian 12 with the Node.js of the checkout, `RUN npm ci` a copy of the production packages of the checkout;
 * everything else is carried out as it stands.
 */
async function makeOurs(): Promise<Image> {
  const application = await mkdtemp(path.join(IN_MEMORY, 'howdah-image-'))
  const remove = () => rm(application, { recursive: true, force: true })
  let layers: Layers = []
  let workingDirectory = '/'
  let entrypoint: readonly string[] = []
  let isCopied = false
  const inside = (file: string) => path.join(application, workingDirectory, file)

  async function carryOut({ keyword, argument }: Instruction): Promise<void> {
    switch (keyword) {
      case 'FROM':
        layers = DEBIAN_12
        return
      case 'WORKDIR':
        workingDirectory = argument
        await mkdir(inside('.'), { recursive: true })
        return
      case 'COPY': {
        isCopied = true
        const words = argument.split(/ +/)
        const to = words.pop() ?? ''
        for (const from of words)
          await cp(path.join(CHECKOUT, from), inside(to.endsWith('/') ? path.join(to, from) : to), {
            recursive: true,
          })
        return
      }
      case 'RUN':
        if (argument === 'npm ci --omit=dev') await copyPackages(inside('.'))
        else if (isCopied) throw new Error(`a layer above what is copied is not made here: RUN ${argument}`)
        else layers = await layerOver(layers, argument)
        return
      case 'ENTRYPOINT':
        entrypoint = JSON.parse(argument) as string[]
        return
      default:
        throw new Error(`${keyword} of the Dockerfile is not carried out here`)
    }
  }

  try {
    for (const instruction of await ourInstructions()) await carryOut(instruction)
    await mkdir(path.join(application, 'usr/local/bin'), { recursive: true })
    await symlink(
      path.join(workingDirectory, 'node_modules/node/bin/node'),
      path.join(application, 'usr/local/bin/node'),
    )
    const environment = { PATH: DEBIAN_PATH }
    return { layers: [application, ...layers], environment, workingDirectory, entrypoint, remove }
  } catch (error) {
    await remove()
    throw error
  }
}

/** As bin/bundle does: the packages that the lock file does not name for development, with what is nested in them. */
async function copyPackages(to: string): Promise<void> {
  const lock = JSON.parse(await readFile(path.join(CHECKOUT, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, { dev?: boolean }>
  }
  const packages = Object.entries(lock.packages)
    .filter(([name, { dev }]) => /^node_modules\/(?!.*node_modules\/)/.test(name) && dev !== true)
    .map(([name]) => name)
    .filter((name) => existsSync(path.join(CHECKOUT, name)))
  await run('cp', ['-R', '--parents', ...packages, to], { cwd: CHECKOUT })
  await mkdir(path.join(to, 'node_modules/.bin'))
  await symlink('../node/bin/node', path.join(to, 'node_modules/.bin/node'))
}

/** What the entrypoint of the image does with these variables. */
const POSTGRES_ENTRYPOINT = `
  as_postgres='setpriv --reuid=postgres --regid=postgres --init-groups'
  install -d -o postgres -g postgres -m 700 "$PGDATA"
  install -d -o postgres -g postgres -m 3777 /run/postgresql
  if [ ! -s "$PGDATA/PG_VERSION" ]; then
    printf %s "$POSTGRES_PASSWORD" >/run/password
    chown postgres /run/password
    $as_postgres initdb --pgdata="$PGDATA" --username="$POSTGRES_USER" --pwfile=/run/password >/dev/null
    rm /run/password
    echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
    echo "CREATE DATABASE \\"$POSTGRES_DB\\"" | $as_postgres postgres --single -D "$PGDATA" postgres >/dev/null
  fi
  exec $as_postgres postgres -D "$PGDATA" -c 'listen_addresses=*' -c unix_socket_directories=/run/postgresql
`

async function makePostgres(): Promise<Image> {
  const packages = (await ourInstructions()).find(({ keyword }) => keyword === 'RUN')?.argument ?? ''
  const data = '/var/lib/postgresql/data'
  return {
    layers: await layerOver(
      await layerOver(DEBIAN_12, packages),
      `install -d -o postgres -g postgres -m 1777 ${data}`,
    ),
    environment: { PATH: `/usr/lib/postgresql/15/bin:${DEBIAN_PATH}`, PGDATA: data, LANG: 'C.UTF-8' },
    workingDirectory: '/',
    entrypoint: ['sh', '-euc', POSTGRES_ENTRYPOINT],
    remove: async () => undefined,
  }
}

async function makeRabbitMQ(): Promise<Image> {
  const script = [
    'apt-get update',
    'DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends rabbitmq-server',
    'rm -rf /var/lib/apt/lists/*',
  ].join(' && ')
  return {
    layers: await layerOver(DEBIAN_12, script),
    environment: {
      PATH: `/usr/lib/rabbitmq/bin:${DEBIAN_PATH}`,
      HOME: '/var/lib/rabbitmq',
      LANG: 'C.UTF-8',
    },
    workingDirectory: '/',
    entrypoint: ['setpriv', '--reuid=rabbitmq', '--regid=rabbitmq', '--init-groups', 'rabbitmq-server'],
    remove: async () => undefined,
  }
}
