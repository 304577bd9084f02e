package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"cordon/configs"
)

// Fixed points of the demo, which scripts from outside rely on.
const (
	resolverAddress = "127.0.0.1:5300"
	resolverTLS     = "127.0.0.1:8853" // DoT and DoQ
	resolverHTTPS   = "127.0.0.1:8443" // DoH
	resolverMetrics = "127.0.0.1:9153"
	auditorAddress  = "127.0.0.1:8446"
	auditorMetrics  = "127.0.0.1:9154"
	stopPageAddress = "127.0.0.1:8451"
	stopPage        = "http://" + stopPageAddress + "/"
)

// configure writes the programs' configuration files, which are good for
// starting each of them by hand as well. They are written anew at each start,
// since the internet may be another one.
func (s *stage) configure() error {
	pages, err := configs.Examples.ReadFile("stoppage-pages.yaml")
	if err != nil {
		return err
	}
	for path, text := range map[string]string{
		s.path("resolver", "resolver.yaml"):       s.resolverConfig(),
		s.path("auditor", "auditor.yaml"):         s.auditorConfig(),
		s.path("stoppage", "stoppage.yaml"):       s.stoppageConfig(),
		s.path("stoppage", "stoppage-pages.yaml"): string(pages),
		s.path("oversight", "oversight.yaml"):     s.oversightConfig(),
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (s *stage) resolverConfig() string {
	recursion := ""
	if s.offline {
		recursion = fmt.Sprintf(`
recursion:
  root_hints: ../internet/root.hints
  trust_anchors: ../internet/root.ds
  port: %d
  may_query: [127.0.53.0/24]
  ipv6: false
`, internetPort)
	}
	return fmt.Sprintf(`# The demo's resolver. configs/cordon-resolver.yaml explains each setting.
listen: [%[1]s]
dot: [%[2]s]
doq: [%[2]s]
doh: [%[3]s]
tls:
  certificate: ../keys/tls-resolver.pem
  key: ../keys/tls-resolver.key
  name: %[4]s
%[5]slists:
  - name: national
    source: ../publish
    root: ../publish/metadata/1.root.json
    identity: ../keys/resolver.identity
    passphrase_file: ../keys/passphrase
    poll: 5s
store: lists
blocklog:
  dir: blocklog
metrics:
  listen: %[6]s
control:
  socket: resolver.sock
`, resolverAddress, resolverTLS, resolverHTTPS, resolverName, strings.TrimPrefix(recursion, "\n"), resolverMetrics)
}

func (s *stage) auditorConfig() string {
	return fmt.Sprintf(`# The demo's auditor. configs/cordon-auditor.yaml explains each setting.
blocklog: ../resolver/blocklog
log: ../audit
key: ../keys/audit.key
verifier_key: ../keys/audit.vkey
passphrase_file: ../keys/passphrase
seal_interval: 2s # so that a person need not wait
listen: %s
tls:
  certificate: ../keys/tls-auditor.pem
  key: ../keys/tls-auditor.key
  client_ca: ../keys/tls-ca.pem
metrics: %s
`, auditorAddress, auditorMetrics)
}

func (s *stage) stoppageConfig() string {
	return fmt.Sprintf(`# The demo's stop page. configs/cordon-stoppage.yaml explains each setting.
listen:
  - address: %s
blocked_by: https://operator.example/blocking
pages: stoppage-pages.yaml
`, stopPageAddress)
}

func (s *stage) oversightConfig() string {
	return fmt.Sprintf(`# The demo's oversight. configs/cordon-oversight.yaml explains each setting.
data: mirror
logs:
  - name: audit
    kind: audit
    source: https://%[1]s/
    vkey: ../keys/audit.vkey
    ca: ../keys/tls-ca.pem
    cert: ../keys/tls-oversight.pem
    key: ../keys/tls-oversight.key
    blocklog: https://%[1]s/
  - name: register
    kind: register
    source: ../authority/register
    vkey: ../keys/register.vkey
publication:
  source: ../publish
  root: ../publish/metadata/1.root.json
identity: ../keys/oversight.identity
passphrase_file: ../keys/passphrase
interval: 10s
`, auditorAddress)
}

// lastLines are the last lines of a log, for a person who is to see at once why
// a program ended.
func lastLines(path string, n int) string {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	} else if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
