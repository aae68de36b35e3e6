// Web programs as people write them with net/http; the tests run each under a name of its own.
//
//	serve [-stream] [-page BYTES] [-think D] ADDRESS
//	fetch [-idle N] [-unread] [-together N] [-requests N] URL
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) < 2 {
		log.Fatal("serve or fetch?")
	}
	switch command, arguments := os.Args[1], os.Args[2:]; command {
	case "serve":
		serve(arguments)
	case "fetch":
		fetch(arguments)
	default:
		log.Fatalf("no such command: %s", command)
	}
}

func serve(arguments []string) {
	flags := flag.NewFlagSet("serve", flag.ExitOnError)
	stream := flags.Bool("stream", false, "answer without a Content-Length")
	size := flags.Int("page", 2000, "bytes of an answer")
	think := flags.Duration("think", 20*time.Millisecond, "time to the answer")
	_ = flags.Parse(arguments)

	page := strings.Repeat("x", *size)
	handler := func(answer http.ResponseWriter, _ *http.Request) {
		time.Sleep(*think)
		if *stream {
			answer.(http.Flusher).Flush()
		} else {
			answer.Header().Set("Content-Length", fmt.Sprint(len(page)))
		}
		_, _ = io.WriteString(answer, page)
	}
	log.Fatal(http.ListenAndServe(flags.Arg(0), http.HandlerFunc(handler)))
}

func fetch(arguments []string) {
	flags := flag.NewFlagSet("fetch", flag.ExitOnError)
	idle := flags.Int("idle", http.DefaultMaxIdleConnsPerHost, "connections kept for a host")
	unread := flags.Bool("unread", false, "close an answer's body without reading it")
	together := flags.Int("together", 1, "requests at a time; the next when all of them are answered")
	requests := flags.Int("requests", 1, "in all")
	_ = flags.Parse(arguments)

	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = *idle
	client := http.Client{Transport: transport}
	for left := *requests; left > 0; left -= *together {
		var asked sync.WaitGroup
		for n := 0; n < *together && n < left; n++ {
			asked.Add(1)
			go func() {
				defer asked.Done()
				get(&client, flags.Arg(0), *unread)
			}()
		}
		asked.Wait()
	}
}

func get(client *http.Client, url string, unread bool) {
	answer, err := client.Get(url)
	if err != nil {
		log.Fatal(err)
	}
	if unread {
		time.Sleep(20 * time.Millisecond) // by now all of it has come, but for what the buffers do not hold
	} else if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		log.Fatal(err)
	}
	answer.Body.Close()
}
