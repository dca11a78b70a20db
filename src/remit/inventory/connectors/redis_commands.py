"""Redis's own table of commands, for servers that do not let us read theirs (`+command`).

Each line is `CATEGORIES KEYS: NAMES`. KEYS say what is done to each key (`r`ead, `w`rite, `m`etadata only), after `+`
to those that options add; `!` marks what everybody may give. A test holds it against a real server.

Spec: `COMMAND` of Redis 7.0.
"""

from __future__ import annotations

from remit.inventory.connectors.redis_acl import CHANNELS, Command, Commands

_TABLE = """
admin,connection,dangerous,slow -: client|kill client|list client|no-evict client|pause client|unblock
  client|unpause
admin,dangerous,fast -: lastsave role
admin,dangerous,hyperloglog,slow -: pfselftest
admin,dangerous,hyperloglog,slow,write r: pfdebug
admin,dangerous,slow -: acl|deluser acl|dryrun acl|getuser acl|list acl|load acl|log acl|save acl|setuser acl|users
  bgrewriteaof bgsave cluster|addslots cluster|addslotsrange cluster|bumpepoch cluster|count-failure-reports
  cluster|delslots cluster|delslotsrange cluster|failover cluster|flushslots cluster|forget cluster|meet
  cluster|replicas cluster|replicate cluster|reset cluster|saveconfig cluster|set-config-epoch cluster|setslot
  cluster|slaves config|get config|resetstat config|rewrite config|set debug failover latency|doctor latency|graph
  latency|histogram latency|history latency|latest latency|reset module|list module|load module|loadex module|unload
  monitor psync replconf replicaof save shutdown slaveof slowlog|get slowlog|len slowlog|reset sync
bitmap,fast,read r: bitfield_ro getbit
bitmap,read,slow r: bitcount bitpos
bitmap,slow,write rw: bitfield setbit
bitmap,slow,write w,r: bitop
blocking,fast,sortedset,write rw: bzpopmax bzpopmin
blocking,list,slow,write rw: blmpop blpop brpop
blocking,list,slow,write rw,w: blmove brpoplpush
blocking,read,slow,stream r: xread
blocking,slow,sortedset,write rw: bzmpop
blocking,slow,stream,write r: xreadgroup
connection,fast -: asking echo ping readonly readwrite select
connection,fast !: auth hello quit reset
connection,slow -: client|caching client|getname client|getredir client|help client|id client|info client|reply
  client|setname client|tracking client|trackinginfo command command|count command|docs command|getkeys
  command|getkeysandflags command|help command|info command|list wait
dangerous,fast,keyspace,write -: swapdb
dangerous,keyspace,read,slow -: keys
dangerous,keyspace,slow,write -: flushall flushdb
dangerous,keyspace,slow,write rw+rw: migrate
dangerous,keyspace,slow,write w: restore restore-asking
dangerous,list,read,set,slow,sortedset r+r: sort_ro
dangerous,list,set,slow,sortedset,write r+r,w: sort
dangerous,slow -: info
fast -: time
fast,hash,read m: hexists hlen hstrlen
fast,hash,read r: hget hmget
fast,hash,write rw: hincrby hincrbyfloat
fast,hash,write w: hdel hmset hset hsetnx
fast,hyperloglog,write w: pfadd
fast,keyspace,read -: dbsize
fast,keyspace,read m: exists touch type
fast,keyspace,read r: expiretime pexpiretime pttl ttl
fast,keyspace,write rw: move
fast,keyspace,write rw,w: renamenx
fast,keyspace,write w: expire expireat persist pexpire pexpireat unlink
fast,list,read m: llen
fast,list,write rw: lpop rpop
fast,list,write w: lpush lpushx rpush rpushx
fast,pubsub -: publish
fast,pubsub r: spublish
fast,read -: lolwut
fast,read,set m: scard sismember
fast,read,set r: smismember
fast,read,sortedset m: zcard
fast,read,sortedset r: zcount zlexcount zmscore zrank zrevrank zscore
fast,read,stream m: xlen
fast,read,string m: strlen
fast,read,string r: get mget
fast,set,write rw: spop
fast,set,write rw,w: smove
fast,set,write w: sadd srem
fast,sortedset,write rw: zincrby zpopmax zpopmin
fast,sortedset,write w: zadd zrem
fast,stream,write w: xack xadd xautoclaim xclaim xdel xsetid
fast,string,write rw: decr decrby getdel getex getset incr incrby incrbyfloat
fast,string,write w: append setnx
fast,transaction -: discard multi unwatch
fast,transaction m: watch
geo,read,slow r: geodist geohash geopos georadius_ro georadiusbymember_ro geosearch
geo,slow,write r+w,w: georadius georadiusbymember
geo,slow,write w: geoadd
geo,slow,write w,r: geosearchstore
hash,read,slow r: hgetall hkeys hrandfield hscan hvals
hyperloglog,read,slow r: pfcount
hyperloglog,slow,write rw,r: pfmerge
keyspace,read,slow -: randomkey scan
keyspace,read,slow m: object|encoding object|freq object|idletime object|refcount
keyspace,read,slow r: dump
keyspace,slow -: object|help
keyspace,slow,write r,w: copy
keyspace,slow,write rw,w: rename
keyspace,slow,write w: del
list,read,slow r: lindex lpos lrange
list,slow,write rw: lmpop
list,slow,write rw,w: lmove rpoplpush
list,slow,write w: linsert lrem lset ltrim
pubsub,slow -: psubscribe pubsub|channels pubsub|numpat pubsub|numsub pubsub|shardchannels pubsub|shardnumsub
  punsubscribe subscribe unsubscribe
pubsub,slow r: ssubscribe sunsubscribe
read,set,slow r: sdiff sinter sintercard smembers srandmember sscan sunion
read,slow m: memory|usage
read,slow,sortedset r: zdiff zinter zintercard zrandmember zrange zrangebylex zrangebyscore zrevrange zrevrangebylex
  zrevrangebyscore zscan zunion
read,slow,stream r: xinfo|consumers xinfo|groups xinfo|stream xpending xrange xrevrange
read,slow,string r: getrange lcs substr
scripting,slow -: function|dump function|help function|kill function|list function|stats script|debug script|exists
  script|flush script|help script|kill script|load
scripting,slow r: eval_ro evalsha_ro fcall_ro
scripting,slow rw: eval evalsha fcall
scripting,slow,write -: function|delete function|flush function|load function|restore
set,slow,write w,r: sdiffstore sinterstore sunionstore
slow -: acl acl|cat acl|genpass acl|help acl|whoami client cluster cluster|countkeysinslot cluster|getkeysinslot
  cluster|help cluster|info cluster|keyslot cluster|links cluster|myid cluster|nodes cluster|shards cluster|slots
  config config|help function latency latency|help memory memory|doctor memory|help memory|malloc-stats memory|purge
  memory|stats module module|help object pubsub pubsub|help script slowlog slowlog|help xgroup xinfo
slow,sortedset,write rw: zmpop
slow,sortedset,write w: zremrangebylex zremrangebyrank zremrangebyscore
slow,sortedset,write w,r: zdiffstore zinterstore zrangestore zunionstore
slow,stream -: xgroup|help xinfo|help
slow,stream,write w: xgroup|create xgroup|createconsumer xgroup|delconsumer xgroup|destroy xgroup|setid xtrim
slow,string,write rw: set
slow,string,write w: mset msetnx psetex setex setrange
slow,transaction -: exec
"""
_FLAGS = {"r": "access", "w": "update"}


def _read(table: str) -> Commands:
    lines = [line.partition(": ") for line in table.replace("\n  ", " ").strip().splitlines()]
    below: dict[str, list[str]] = {}
    for name in (name for _, _, names in lines for name in names.split() if "|" in name):
        below.setdefault(name.partition("|")[0], []).append(name)
    found: dict[str, Command] = {}
    for head, _, names in lines:
        categories, keys = head.split(" ")
        needed, _, optional = keys.strip("!-").partition("+")
        for name in names.split():
            found[name] = Command(
                name=name, categories=frozenset(categories.split(",")) - {"-"}, always=keys.endswith("!"),
                keys=_specs(needed), optional=_specs(optional), channels=name in CHANNELS,
                below=tuple(below.get(name, ())),
            )  # fmt: skip
    return Commands(found)


def _specs(text: str) -> tuple[frozenset[str], ...]:
    return tuple(frozenset(_FLAGS[mark] for mark in each if mark in _FLAGS) for each in text.split(",") if each)


CARRIED = _read(_TABLE)
