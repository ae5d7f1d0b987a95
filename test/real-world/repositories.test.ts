import { describeScenarios } from './describe.ts'
import { archives } from './recipes/archives.ts'
import { barmanElsewhere } from './recipes/barman.ts'
import { contents } from './recipes/contents.ts'
import { directories } from './recipes/directories.ts'
import { sound } from './recipes/sound.ts'
import { tablespaces } from './recipes/tablespaces.ts'

describeScenarios('what other people keep, and where', [
  ...sound,
  ...tablespaces,
  ...contents,
  ...directories,
  ...archives,
  ...barmanElsewhere,
])
