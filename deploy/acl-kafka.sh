#!/bin/sh
# Grants what workers, the join of outcomes and tools need on a Kafka whose brokers have an authorizer.
#
#   ./acl-kafka.sh --bootstrap-server HOST:9092 --command-config admin.properties
#
# The arguments go to kafka-acls.sh, which must be on the path. Whoever runs this may change ACLs. Put your own names
# of users, topics and group here.
set -eu

worker=${WORKER:-User:trimtab-worker}
join=${JOIN:-User:trimtab-outcomes}
users=${USERS:-User:trimtab-users}
ops=${OPS:-User:trimtab-ops}
producer=${PRODUCER:-User:producer}
interaction_producer=${INTERACTION_PRODUCER:-User:interaction-producer}
candidates=${TRIMTAB_TOPIC_CANDIDATES:-candidates}
feeds=${TRIMTAB_TOPIC_FEEDS:-ranked-feeds}
dead_letters=${TRIMTAB_TOPIC_DEAD_LETTERS:-candidates.dead-letters}
interactions=${TRIMTAB_TOPIC_INTERACTIONS:-interactions}
interaction_letters=${TRIMTAB_TOPIC_INTERACTION_LETTERS:-interactions.dead-letters}
request_outcomes=${TRIMTAB_TOPIC_REQUEST_OUTCOMES:-request-outcomes}
feed_outcomes=${TRIMTAB_TOPIC_FEED_OUTCOMES:-feed-outcomes}
user_outcomes=${TRIMTAB_TOPIC_USER_OUTCOMES:-user-outcomes}
user_changelog=${TRIMTAB_TOPIC_USER_CHANGELOG:-user-outcomes.changelog}
group=${TRIMTAB_GROUP:-trimtab}
outcomes_group=${TRIMTAB_OUTCOMES_GROUP:-trimtab-outcomes}
users_group=${TRIMTAB_USERS_GROUP:-trimtab-users}

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
# Only if a surface has outcomes.
allow "$worker" $describe --operation Write --topic "$interactions"

# The join of outcomes, if a surface has them.
allow "$join" $describe --operation Read --topic "$interactions"
allow "$join" $describe --operation Write --topic "$interaction_letters"
allow "$join" $describe --operation Write --topic "$request_outcomes"
allow "$join" $describe --operation Read --operation Write --topic "$feed_outcomes"
allow "$join" --operation Read --group "$outcomes_group"
allow "$join" --operation Describe --operation Write --transactional-id "$outcomes_group-" \
    --resource-pattern-type prefixed

# The users stage. It has no transactional id.
allow "$users" $describe --operation Read --topic "$request_outcomes"
allow "$users" $describe --operation Write --topic "$user_outcomes"
allow "$users" $describe --operation Read --operation Write --topic "$user_changelog"
allow "$users" --operation Read --group "$users_group"
# Its guard rails.
allow "$users" --operation Describe --operation Read --topic "$feed_outcomes"

# The tools: feeds tail, weights preview and margin; dead-letters list; offsets resume and skip; who
# is in the group, for weights wait; outcomes counts, tail and report; experiment show, promote and plan.
allow "$ops" --operation Describe --operation Read --topic "$feeds"
allow "$ops" --operation Describe --operation Read --topic "$dead_letters"
allow "$ops" --operation Describe --operation Read --topic "$candidates"
allow "$ops" --operation Describe --operation Read --group "$group"
allow "$ops" --operation Describe --operation Read --topic "$feed_outcomes"
allow "$ops" --operation Describe --operation Read --topic "$request_outcomes"
allow "$ops" --operation Describe --operation Read --topic "$user_outcomes"
allow "$ops" --operation Describe --operation Read --topic "$interaction_letters"

# Whoever sends candidates; trimtab produce. Brokers before Kafka 3.0 also ask for IdempotentWrite on the cluster:
# allow "$producer" --operation IdempotentWrite --cluster
allow "$producer" --operation Describe --operation Write --topic "$candidates"

# Whoever sends interactions.
allow "$interaction_producer" --operation Describe --operation Write --topic "$interactions"
