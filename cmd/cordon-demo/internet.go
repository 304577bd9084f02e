package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/miekg/dns"
	"github.com/spf13/cobra"

	"cordon/cmd/internal/daemon"
	"cordon/test/lab"
)

// internetPort is where the sample internet's servers answer, an unprivileged
// port, so that the demo needs no special rights.
const internetPort = 5391

// hasRoute asks a root server (b.root-servers.net) for the root's name servers.
func hasRoute(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	m := new(dns.Msg)
	m.SetQuestion(".", dns.TypeNS)
	reply, _, err := new(dns.Client).ExchangeContext(ctx, m, netip.AddrPortFrom(netip.MustParseAddr("170.247.170.2"), 53).String())
	return err == nil && reply.Rcode == dns.RcodeSuccess && len(reply.Answer) > 0
}

// internetCommand serves the sample internet; the demo starts it as a child, so
// that it can be stopped like the other programs. Its keys are new at each start:
// it writes hints and trust anchor into the folder before it answers.
func internetCommand() *cobra.Command {
	c := &cobra.Command{
		Use:    "internet DIR",
		Short:  "serve the sample internet, and write its root.hints and root.ds into DIR",
		Args:   cobra.ExactArgs(1),
		Hidden: true,
	}
	c.RunE = func(cmd *cobra.Command, args []string) error {
		return daemon.Run(cmd.Context(), func(ctx context.Context) error {
			inet, err := lab.Build(lab.Sample(), time.Now())
			if err != nil {
				return err
			}
			server, err := inet.Listen(internetPort)
			if err != nil {
				return err
			}
			defer server.Close()
			if err := os.WriteFile(filepath.Join(args[0], "root.hints"), []byte(inet.RootHints()), 0o644); err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(args[0], "root.ds"), []byte(inet.TrustAnchor()), 0o644); err != nil {
				return err
			}
			fmt.Println("serving the sample internet on port", server.Port())
			return server.Serve(ctx)
		})
	}
	return c
}
