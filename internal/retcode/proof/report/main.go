// Command report adds up what the tests of one run proved, prints
// `status codes proven: N of 213`, and says whether docs/status-codes.md shows
// just that; with -w it writes the table.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/retcode/proof"
)

func main() {
	log.SetFlags(0)
	dir := flag.String("dir", os.Getenv(proof.Env), "folder that the tests wrote to")
	doc := flag.String("doc", "docs/status-codes.md", "the table")
	write := flag.Bool("w", false, "write the table")
	flag.Parse()
	proven, err := proof.Collect(*dir)
	if err != nil {
		log.Fatal(err)
	}
	// Other tests leave counts of their own here, such as how much of the contract is there.
	counts, err := filepath.Glob(filepath.Join(*dir, "*.count"))
	if err != nil {
		log.Fatal(err)
	}
	for _, name := range counts {
		text, err := os.ReadFile(name)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Print(string(text))
	}
	table := proof.Table(proven)
	fmt.Printf("status codes proven: %d of %d\n", len(proven), len(retcode.All))
	have, err := os.ReadFile(*doc)
	if err == nil && string(have) == table {
		return
	}
	if !*write {
		log.Fatalf("%s is not what this run proved", *doc)
	}
	if err := os.WriteFile(*doc, []byte(table), 0o644); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s is new: commit it\n", *doc)
}
