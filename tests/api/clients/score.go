// By the generated client: score a payment, then a batch of it and of one that conflicts with it.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	client "quickstudy/client"
)

func payment(amount string) client.PostedTransaction {
	at := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	posted := client.NewPostedTransaction("t-go", "a-1", at, amount, "EUR")
	posted.SetAttributes(map[string]interface{}{"device_age_days": 3})
	return *posted
}

func main() {
	configuration := client.NewConfiguration()
	configuration.Servers = client.ServerConfigurations{{URL: os.Args[1]}}
	api := client.NewAPIClient(configuration).TransactionsAPI
	caller := context.WithValue(context.Background(), client.ContextAccessToken, os.Args[2])
	score, _, err := api.ScoreTransaction(caller).PostedTransaction(payment("12.50")).Execute()
	if err != nil {
		panic(err)
	}
	posted := client.NewPostedBatch([]client.PostedTransaction{payment("12.5"), payment("13")})
	batch, _, err := api.ScoreBatch(caller).PostedBatch(*posted).Execute()
	if err != nil {
		panic(err)
	}
	same, other := batch.Results[0], batch.Results[1]
	fmt.Println(score.Probability, *same.Probability, other.Error.Code)
}
