// The JavaScript SDKs on a lab: identity, keyvault-keys and storage-blob, unmodified.
// It reads what to use from the environment that `drengine lab exec` makes and prints one
// JSON object with what it found.
import { ClientSecretCredential } from "@azure/identity";
import { CryptographyClient, KeyClient } from "@azure/keyvault-keys";
import { BlobServiceClient, ContainerClient } from "@azure/storage-blob";

const { AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_CLIENT_SECRET } = process.env;
const [hsm, account, container, sas] = process.argv.slice(2);
const credential = new ClientSecretCredential(AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_CLIENT_SECRET);
const keys = new KeyClient(`https://${hsm}.managedhsm.azure.net`, credential);
const found = { keys: [], blobs: [] };

for await (const key of keys.listPropertiesOfKeys()) found.keys.push(key.name);
const made = await keys.createRsaKey("from-javascript", { hsm: true, keySize: 2048 });
const rotated = await keys.rotateKey("from-javascript");
found.rotated = rotated.properties.version !== made.properties.version;
const user = new CryptographyClient(rotated.id, credential);
const sealed = await user.wrapKey("RSA-OAEP-256", Buffer.from("0123456789abcdef"));
const opened = await user.unwrapKey("RSA-OAEP-256", sealed.result);
found.unwrapped = Buffer.from(opened.result).toString();
const backup = await keys.backupKey("from-javascript");
found.backup = backup.length > 1000;
const poller = await keys.beginDeleteKey("from-javascript", { intervalInMs: 50 });
found.deleted = (await poller.pollUntilDone()).name;

const bySas = new ContainerClient(`https://${account}.blob.core.windows.net/${container}?${sas}`);
for await (const blob of bySas.listBlobsFlat()) found.blobs.push(blob.name);
const service = new BlobServiceClient(`https://${account}.blob.core.windows.net`, credential);
const target = service.getContainerClient("from-javascript");
await target.create();
const log = target.getAppendBlobClient("log");
await log.create();
await log.appendBlock("one", 3, { conditions: { appendPosition: 0 } });
try {
  await log.appendBlock("two", 3, { conditions: { appendPosition: 0 } });
} catch (error) {
  found.appendRefused = error.code;
}
found.text = (await log.downloadToBuffer()).toString();
const lease = log.getBlobLeaseClient();
await lease.acquireLease(-1);
try {
  await log.delete();
} catch (error) {
  found.deleteRefused = error.code;
}
await lease.releaseLease();
await target.delete();
console.log(JSON.stringify(found));
