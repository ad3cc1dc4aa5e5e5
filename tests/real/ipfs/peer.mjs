// A real IPFS node for the tests: its RPC on loopback, no network at all. Prints its address, and ends with its standard input.
import { create } from 'ipfs-core'
import { HttpApi } from 'ipfs-http-server'

const ipfs = await create({
  repo: process.argv[2],
  offline: true,
  start: true,
  silent: true,
  config: {
    Addresses: { Swarm: [], API: '/ip4/127.0.0.1/tcp/0', Gateway: '' },
    Bootstrap: [],
    Discovery: { MDNS: { Enabled: false }, webRTCStar: { Enabled: false } },
    Routing: { Type: 'none' },
    Pubsub: { Enabled: false }
  }
})
const api = new HttpApi(ipfs)
await api.start()
const [server] = api._apiServers
console.log(server.info.uri ?? `http://127.0.0.1:${server.info.port}`)
process.stdin.resume()
process.stdin.on('end', () => process.exit(0))
