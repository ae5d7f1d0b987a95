import { describeScenarios } from './describe.ts'
import { access } from './recipes/access.ts'
import { broker } from './recipes/broker.ts'
import { configuration } from './recipes/configuration.ts'
import { ownSettings } from './recipes/own-settings.ts'

describeScenarios('clusters as other people have them', [
  ...access,
  ...ownSettings,
  ...configuration,
  ...broker,
])
