# Sourced by the other scripts: installs the npm packages when they are absent or older than the lock file.
export PATH="$PATH:/usr/sbin:/sbin"
node -e 'const [a,b]=process.versions.node.split(".").map(Number); process.exit(a>20||(a===20&&b>=19)?0:1)' || {
  echo "Imprint needs Node 20.19 or newer; this is $(node -v 2>/dev/null || echo "no node at all")." >&2
  exit 1
}
if [ ! -e node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
  npm ci
  touch node_modules/.package-lock.json
fi
