import { describeScenarios } from './describe.ts'
import { access } from './recipes/access.ts'
import { sound } from './recipes/sound.ts'

describeScenarios('clusters as other people have them', [...sound, ...access])
