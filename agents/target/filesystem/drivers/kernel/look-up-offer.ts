/** Finds out what this kernel's FUSE offers, by a mount that is removed once the kernel has sent INIT. Needs root. */
import { closeSync, readSync } from 'node:fs'
import { HowdahError } from '../../../../../messages/errors.ts'
import { clearDeadMount } from '../../../mount-process/agent/dead-mount.ts'
import { attachDevice, openDevice } from './mount-device.ts'
import { type Offer, offerOf } from './negotiation.ts'
import { Request } from './request.ts'

/** @param directory empty. @throws HowdahError `mount_failed` | `fuse_unusable` */
export async function lookUpOffer(directory: string): Promise<Offer> {
  const fd = openDevice()
  let attached = false
  try {
    await attachDevice(fd, directory, { allowOther: false, source: 'howdah:trial' })
    attached = true
    // The kernel has sent it before mount(2) has returned, so this does not wait.
    const request = new Request()
    const offer = request.accept(readSync(fd, request.bytes)) ? offerOf(request) : undefined
    if (offer === undefined)
      throw new HowdahError('fuse_unusable', 'the kernel does not speak version 7 of FUSE')
    return offer
  } finally {
    // Ends the connection, so that nobody waits for the mount.
    closeSync(fd)
    if (attached) await clearDeadMount(directory)
  }
}
