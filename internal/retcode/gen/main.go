// Command gen writes codes.go from retcodes.yaml, the contract's list of status codes.
package main

import (
	"bytes"
	"fmt"
	"go/format"
	"log"
	"os"

	"gopkg.in/yaml.v3"
)

type catalogue struct {
	Count int `yaml:"count"`
	Codes []struct {
		Code   int    `yaml:"code"`
		Module string `yaml:"module"`
		Symbol string `yaml:"symbol"`
		ZH     string `yaml:"zh"`
		EN     string `yaml:"en"`
		Raised []struct {
			Action string `yaml:"action"`
			When   string `yaml:"when"`
		} `yaml:"raised_by"`
	} `yaml:"codes"`
}

func main() {
	log.SetFlags(0)
	raw, err := os.ReadFile("retcodes.yaml")
	if err != nil {
		log.Fatal(err)
	}
	var c catalogue
	if err := yaml.Unmarshal(raw, &c); err != nil {
		log.Fatal(err)
	}
	if len(c.Codes) != c.Count {
		log.Fatalf("retcodes.yaml says %d codes and lists %d", c.Count, len(c.Codes))
	}
	var b bytes.Buffer
	fmt.Fprintln(&b, "// Code generated from retcodes.yaml by go generate; DO NOT EDIT.")
	fmt.Fprintln(&b, "\npackage retcode\n\n// The codes, by the names that errors are made with.\nconst (")
	for _, k := range c.Codes {
		fmt.Fprintf(&b, "%s Code = %d // %s\n", k.Symbol, k.Code, k.EN)
	}
	fmt.Fprintln(&b, ")\n\n// All lists the catalogue in its own order.\nvar All = []Entry{")
	for _, k := range c.Codes {
		var when string
		for i, r := range k.Raised {
			// One condition is often listed for many actions: say it once, after its actions.
			if i > 0 && k.Raised[i-1].When == r.When {
				continue
			}
			if when != "" {
				when += "; "
			}
			when += r.When
		}
		fmt.Fprintf(&b, "{Code: %s, Module: %q, Symbol: %q, ZH: %q, EN: %q, When: %q},\n", k.Symbol, k.Module, k.Symbol, k.ZH, k.EN, when)
	}
	fmt.Fprintln(&b, "}")
	out, err := format.Source(b.Bytes())
	if err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile("codes.go", out, 0o644); err != nil {
		log.Fatal(err)
	}
}
