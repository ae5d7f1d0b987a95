set -e
rm -rf /usr/local/src/h; mkdir -p /usr/local/src; cp -a /mnt/wt/distros /usr/local/src/h; cd /usr/local/src/h; rm node_modules; cp -a /mnt/main/node_modules node_modules 
export PATH=$PWD/node_modules/.bin:$PATH
command -v ss >/dev/null || apt-get install -y -q --no-install-recommends iproute2 bzip2 lz4 zstd openssl >/dev/null 2>&1
mocha test/postgres/*.test.ts 2>&1
