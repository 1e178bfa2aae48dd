#!/bin/sh
# Grants what workers and tools need on a Kafka whose brokers have an authorizer.
#
#   ./acl-kafka.sh --bootstrap-server HOST:9092 --command-config admin.properties
#
# The arguments go to kafka-acls.sh, which must be on the path. Whoever runs this may change ACLs. Put your own names
# of users, topics and group here.
set -eu

worker=${WORKER:-User:trimtab-worker}
ops=${OPS:-User:trimtab-ops}
producer=${PRODUCER:-User:producer}
candidates=${TRIMTAB_TOPIC_CANDIDATES:-candidates}
feeds=${TRIMTAB_TOPIC_FEEDS:-ranked-feeds}
dead_letters=${TRIMTAB_TOPIC_DEAD_LETTERS:-candidates.dead-letters}
group=${TRIMTAB_GROUP:-trimtab}

allow() {
    who=$1
    shift
    kafka-acls.sh $access --add --allow-principal "$who" "$@"
}
access=$*

# A worker.
describe="--operation Describe --operation DescribeConfigs"
allow "$worker" $describe --operation Read --topic "$candidates"
allow "$worker" $describe --operation Read --operation Write --topic "$feeds"
allow "$worker" $describe --operation Read --operation Write --topic "$dead_letters"
allow "$worker" --operation Read --group "$group"
allow "$worker" --operation Describe --operation Write --transactional-id "$group-" --resource-pattern-type prefixed

# The tools: feeds tail, weights preview and margin; dead-letters list; offsets resume and skip; who
# is in the group, for weights wait.
allow "$ops" --operation Describe --operation Read --topic "$feeds"
allow "$ops" --operation Describe --operation Read --topic "$dead_letters"
allow "$ops" --operation Describe --operation Read --topic "$candidates"
allow "$ops" --operation Describe --operation Read --group "$group"

# Whoever sends candidates; trimtab produce. Brokers before Kafka 3.0 also ask for IdempotentWrite on the cluster:
# allow "$producer" --operation IdempotentWrite --cluster
allow "$producer" --operation Describe --operation Write --topic "$candidates"
