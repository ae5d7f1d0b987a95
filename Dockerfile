# One image for all roles of Howdah; the command is a verb: docker run howdah:local coordinator --config …
FROM node:24.21.0-bookworm

# No cluster is made: instances are published, and the store is another service.
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends postgresql-common \
 && echo 'create_main_cluster = false' >> /etc/postgresql-common/createcluster.conf \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
      postgresql-15 libfuse2 fuse nftables procps \
 && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/howdah
COPY package.json package-lock.json ./
RUN npm ci --omit=dev
COPY bin bin
COPY config config
COPY messages messages
COPY coordinator coordinator
COPY agents agents
ENTRYPOINT ["bin/howdah"]
