# An installation in which something has happened, for the runbooks and the
# examples of the command line: checkout-3 failed in production and in qa after
# the switch and left both slots dirty; checkout-4 waits for both of them.
WORLD=$PWD
DATA=$WORLD/deploy/.hotswap
URL=http://127.0.0.1:7080
WEB=127.0.0.1:8080
mkdir -p etc secrets artifacts keys deploy

for_a_while() { # what runs until it is ended must still run after three seconds, and end when it is told to
  "$@" >"$WORLD/while.log" 2>&1 & local pid=$!
  sleep 3
  kill "$pid" || { cat "$WORLD/while.log"; return 1; }
  wait "$pid" || { local code=$?; [ $code = 143 ] || { cat "$WORLD/while.log"; return 1; }; }
}
ends_with() { # ends_with CODE COMMAND…
  local want=$1 code=0
  shift
  "$@" || code=$?
  [ $code = "$want" ] || { echo "$* ended with $code"; return 1; }
}
refused() { ends_with 1 "$@"; } # what cannot be done here says so
in_background() { "$@" >"$WORLD/background.log" 2>&1 & sleep 2; kill -0 $! || { cat "$WORLD/background.log"; return 1; }; }
until_() { # until_ COMMAND…: at most 40 s
  local n=0
  until "$@" >/dev/null 2>&1; do n=$((n + 1)); [ $n -lt 200 ] || { hotswap status --data "$DATA"; cat "$WORLD"/*.log; return 1; }; sleep 0.2; done
}
status_has() { hotswap status --data "$DATA" | grep -q "$1"; }
verified() { hotswap audit verify --data "$DATA" && hotswap audit replay --data "$DATA"; }

hotswap serve --data "$DATA" --listen 127.0.0.1:7080 --tick 1s >serve.log 2>&1 &
until_ hotswap status --data "$DATA"

(cd "$SOURCES" && go build -trimpath -ldflags '-X main.version=1.0.0' -o "$WORLD/checkout" ./deploy/demo/checkout)
hotswap module keygen keys/release
hotswap module pack checkout --name checkout --out artifacts/checkout.tar.gz >module.yaml
DIGEST=$(sed -n 's/^digest: //p' module.yaml)
hotswap module sign --key keys/release.key --name checkout --version 1.0.0 --digest "$DIGEST" >>module.yaml

node() { # node NAME ENVIRONMENT ROUTE
  [ -e "$1.token" ] || hotswap join-token create "$1.token" --data "$DATA" --label environment="$2"
  hotswap node --server $URL/function/nodes --name "$1" --state "$1" --join-token-file "$1.token" --trusted-keys keys/release.pub \
    --file-artifacts artifacts --route checkout="$3" --report-interval 500ms >"$1.log" 2>&1 &
}
node web-1 production $WEB
node qa-2 qa 127.0.0.1:8081

git init -q -b main deploy
git -C deploy config user.name Ann
git -C deploy config user.email ann@example.com
git -C deploy config credential.helper "!f() { echo username=admin; echo password=\$(cat $DATA/secrets/git-admin); }; f"
git -C deploy remote add origin $URL/git/default/deploy.git
intent() { # intent ARGS: the deployment with these arguments of its command
  cat >deploy/deployments/checkout.yaml <<YAML
apiVersion: hotswap.dev/v1
kind: Deployment
metadata: {name: checkout}
spec:
  module:
    name: checkout
    version: "1.0.0"
    artifact: file://$WORLD/artifacts/checkout.tar.gz
$(sed 's/^/    /' module.yaml)
  config: {args: [$1], health: {path: /healthz, interval: 200ms}}
  pipeline: careless
YAML
}
push() { git -C deploy add deployments pipelines environments; git -C deploy commit -q --allow-empty -m "$1"; git -C deploy push -q -u origin main; }

mkdir deploy/deployments deploy/pipelines deploy/environments
touch deploy/deployments/.keep
for name in qa production; do
  printf 'apiVersion: hotswap.dev/v1\nkind: Environment\nmetadata: {name: %s}\nspec: {selector: {environment: %s}}\n' $name $name >deploy/environments/$name.yaml
done
cat >deploy/pipelines/careless.yaml <<'YAML'
apiVersion: hotswap.dev/v1
kind: Pipeline
metadata: {name: careless}
spec:
  stages:
    - {name: qa, environment: qa, strategy: {type: direct, healthyFor: 1m}, onFailure: {action: fail}}
    - {name: production, environment: production, strategy: {type: direct, healthyFor: 1m}, onFailure: {action: fail}}
YAML
push 'where and how'
push 'nothing'
intent -exit-after=2s
push 'a version that crashes after two seconds'
until_ status_has 'checkout-3/production/promote-1 .* failed'
until_ status_has 'checkout-3/qa/promote-1 .* failed'
intent ''
push 'a version that does not'
until_ status_has 'checkout-4/production/promote-1 .* queued .*dirty'
until_ status_has 'checkout-4/qa/promote-1 .* queued .*dirty'


export PGHOST=$(sed -n "s/.*\"dsn\": \"host='\([^']*\)'.*/\1/p" "$DATA/serve.json") PGUSER=postgres PGPASSFILE=$DATA/postgres/passwords/postgres.pgpass

# for_the_examples makes what the examples of the commands read, and goes where they are typed.
for_the_examples() {
  hotswap join-token create secrets/join-token --data "$DATA" --label site=fra
  psql --quiet --dbname postgres --command 'CREATE DATABASE second'
  for login in bo chris dana erik eve; do hotswap account add $login --data "$DATA"; done
  cd deploy
  (cd "$SOURCES" && go build -trimpath -o "$WORLD/deploy/hello" ./deploy/demo/hello)
  mkdir dist && cp ../checkout checkout && cp ../checkout dist/checkout
  echo "host='$PGHOST' user=hotswap_app dbname=second passfile='$DATA/postgres/passwords/hotswap_app.pgpass'" >db.url
  echo "host='$PGHOST' user=postgres dbname=second passfile='$PGPASSFILE'" >admin.url
  { echo 302e020100300506032b657004220420; cat "$DATA/secrets/audit-signing"; } | tr -d '\n' | tr a-f A-F | basenc --decode --base16 |
    openssl pkey -inform DER -pubout -outform DER | tail -c 32 | base64 >audit-keys.txt
}
