// Xen Orchestra's own client: connects, lists, makes and boots a machine, and sees all of it in its cache of events.
//
//     node xen_api.mjs URL auto|json-rpc|xml-rpc
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { Readable } from 'node:stream'
import { createClient } from 'xen-api'

const [url, transport] = process.argv.slice(2)
const xapi = createClient({
  auth: { user: 'root', password: 'xensim' },
  allowUnauthorized: true,
  debounce: 10,
  transport,
  url,
  watchEvents: true,
})

// Wait until the cached object satisfies the claim; the whole script has a time limit of its own.
async function seen(ref, claim) {
  for (;;) {
    const object = xapi.getObjectByRef(ref, undefined)
    if (claim(object)) {
      return object
    }
    await Promise.race(['add', 'update', 'remove'].map(event => once(xapi.objects, event)))
  }
}

await xapi.connect()
await xapi.objectsFetched
console.log(`connected to ${Object.keys(xapi.objects.all).length} objects`)

const templates = await xapi.call('VM.get_by_name_label', 'Other install media')
const vm = await xapi.call('VM.clone', templates[0], 'from node')
await xapi.call('VM.provision', vm)
const network = Object.values(xapi.objects.all).find(object => object.$type === 'network' && object.bridge === 'xenbr0')
const vif = await xapi.call('VIF.create', {
  device: '0', MAC: '', MTU: 1500, network: network.$ref, other_config: {}, qos_algorithm_params: {},
  qos_algorithm_type: '', VM: vm,
})
await seen(vif, object => object?.$VM?.name_label === 'from node')
console.log('created')

const content = Buffer.alloc(4 * 1024 * 1024, 'disk')
const vdi = await xapi.call('VDI.create', {
  name_description: '', name_label: 'from node', other_config: {}, read_only: false, sharable: false,
  SR: xapi.pool.default_SR, type: 'user', virtual_size: content.length,
})
const upload = Object.assign(Readable.from([content]), { length: content.length })
await xapi.putResource(upload, '/import_raw_vdi', { query: { format: 'raw', vdi }, task: xapi.createTask('upload') })
const download = await xapi.getResource('/export_raw_vdi', { query: { format: 'raw', vdi } })
assert.ok(content.equals(Buffer.from(await download.body.arrayBuffer())))
console.log('disk transferred')

await xapi.callAsync('VM.start', vm, false, false)
const running = await seen(vm, object => object?.power_state === 'Running')
assert.equal(running.$resident_on.$ref, xapi.pool.master)
console.log('booted')

await running.update_other_config('made-by', 'node')
assert.equal((await xapi.barrier(vm)).other_config['made-by'], 'node')
await assert.rejects(xapi.call('VM.start', vm, false, false), { code: 'VM_BAD_POWER_STATE' })
console.log('changed')

await xapi.callAsync('VM.hard_shutdown', vm)
await xapi.call('VDI.destroy', vdi)
await xapi.call('VM.destroy', vm)
await seen(vm, object => object === undefined)
console.log('destroyed')
await xapi.disconnect()
process.exit(0)
